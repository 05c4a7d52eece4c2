/*
 * test_interface.cc - every name of the guide's interface, beyond what its own programs use.
 */
#include <hermes_shm/memory/memory_manager.h>

#include "support.h"

#include <atomic>
#include <csignal>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace
{

const hipc::MemoryBackendId backend_id = hipc::MemoryBackendId::Get(0);
const hipc::AllocatorId alloc_id(1, 0);
constexpr std::size_t MIB = hshm::Unit<std::size_t>::Megabytes(1);

hipc::MemoryManager *
manager()
{
    return HSHM_MEMORY_MANAGER;
}

/* A heap in shared memory of that kind. */
template <typename AllocT>
AllocT *
make(const char *name, std::size_t size = 4 * MIB, std::size_t header = 0)
{
    assert_non_null(manager()->CreateBackend<hipc::PosixShmMmap>(backend_id, size, name));
    assert_non_null(manager()->CreateAllocator<AllocT>(backend_id, alloc_id, header));
    auto *alloc = manager()->GetAllocator<AllocT>(alloc_id);
    assert_non_null(alloc);
    return alloc;
}

void
drop()
{
    assert_true(manager()->DestroyBackend(backend_id));
}

int
drop_all(void **)
{
    hshm_manager_destroy(nullptr);
    return 0;
}

/* ---- ids, sizes, pointers ---- */

static_assert(hshm::Unit<size_t>::Kilobytes(3) == 3072 && hshm::Unit<size_t>::Gigabytes(1) == size_t{ 1 } << 30);
static_assert(hshm::Unit<int>::Megabytes(2) == 2097152 && hshm::Unit<size_t>::Terabytes(1) == size_t{ 1 } << 40);
static_assert(hshm::Unit<double>::Gigabytes(0.5) == 536870912.0);
static_assert(std::is_same_v<hipc::MemoryBackendType, hshm::ipc::MemoryBackendType>);
static_assert(std::is_trivially_copyable_v<hipc::AllocatorId> && std::is_trivially_copyable_v<hipc::OffsetPointer>);
static_assert(std::is_trivially_copyable_v<hipc::Pointer> && std::is_trivially_copyable_v<hipc::FullPtr<int>>);

void
ids_and_contexts(void **)
{
    hipc::AllocatorId id(3, 4);
    assert_int_equal(id.bits_.major_, 3);
    assert_int_equal(id.bits_.minor_, 4);
    assert_true(id != hipc::AllocatorId(4, 3) && id == hipc::AllocatorId(3, 4) && !id.IsNull());
    id.SetNull();
    assert_true(id.IsNull());
    assert_int_equal(std::hash<hipc::AllocatorId>()(alloc_id), std::hash<hipc::AllocatorId>()(hipc::AllocatorId(1, 0)));
    assert_int_equal(hipc::MemoryBackendId::Get(7).id_, 7);
    assert_true(hipc::MemoryBackendId::Get(7) != hipc::MemoryBackendId::Get(8));
    assert_true(HSHM_DEFAULT_MEM_CTX.tid_.IsNull() && HSHM_MCTX.tid_.IsNull());
    assert_int_equal(hipc::MemContext(hshm::ThreadId{ 5 }).tid_.tid_, 5);
}

template <typename OffsetT>
void
offset_pointer()
{
    OffsetT p;
    assert_true(p.IsNull());
    p = 64;
    assert_int_equal(p.load(), 64);
    assert_int_equal((p + 16).load(), 80);
    assert_int_equal((p - 16).load(), 48);
    p += 8;
    p -= 4;
    assert_int_equal((p++).load(), 68);
    assert_int_equal((++p).load(), 70);
    assert_int_equal((p--).load(), 70);
    assert_int_equal((--p).load(), 68);
    size_t expected = 1;
    assert_false(p.compare_exchange_strong(expected, 2));
    assert_int_equal(expected, 68);
    while (!p.compare_exchange_weak(expected, 100)) {
    }
    assert_int_equal(p.exchange(200), 100);
    assert_true(p == OffsetT(200) && p != OffsetT(100));
    assert_int_equal(p.ToOffsetPointer().load(), 200);
    assert_int_equal(p.off_.load(), 200);
    OffsetT copy(p);
    p.SetNull();
    assert_true(p.IsNull() && !copy.IsNull() && OffsetT::GetNull().IsNull());
}

void
offset_pointers(void **)
{
    offset_pointer<hipc::OffsetPointer>();
    offset_pointer<hipc::AtomicOffsetPointer>();
    const hipc::AtomicOffsetPointer shared(hipc::OffsetPointer(5));
    assert_int_equal(hipc::OffsetPointer(shared).load(), 5);
}

template <typename PointerT>
void
pointer()
{
    PointerT p;
    assert_true(p.IsNull());
    p = PointerT(alloc_id, 64);
    assert_true(!p.IsNull() && p.alloc_id_ == alloc_id);
    assert_int_equal(p.off_.load(), 64);
    assert_int_equal((p + 6).off_.load(), 70);
    assert_int_equal(((p += 10) -= 4).off_.load(), 70);
    assert_int_equal((p++).off_.load(), 70);
    assert_int_equal((--p).off_.load(), 70);
    assert_true(p == PointerT(alloc_id, hipc::OffsetPointer(70)) && p != PointerT(hipc::AllocatorId(2, 0), 70));
    assert_int_equal(p.ToOffsetPointer().load(), 70);
    p.SetNull();
    assert_true(p.IsNull() && PointerT::GetNull().IsNull());
}

void
pointers(void **)
{
    pointer<hipc::Pointer>();
    pointer<hipc::AtomicPointer>();
    const hipc::AtomicPointer shared(hipc::Pointer(alloc_id, 5));
    assert_int_equal(hipc::Pointer(shared).off_.load(), 5);
    const hipc::Pointer plain(alloc_id, 5);
    assert_true(plain == shared && shared == plain && !(plain != shared));
    assert_true(hipc::OffsetPointer(5) == hipc::AtomicOffsetPointer(5));
    assert_true(hipc::Pointer(alloc_id, 0) == hipc::Pointer());
    assert_int_equal(std::hash<hipc::Pointer>()(hipc::Pointer(alloc_id, 0)),
                     std::hash<hipc::Pointer>()(hipc::Pointer()));
    /* In memory that is zero when new, such as a custom header, they are null. */
    alignas(hipc::AtomicPointer) unsigned char zero[sizeof(hipc::AtomicPointer)] = {};
    assert_true(reinterpret_cast<hipc::AtomicPointer *>(zero)->IsNull());
}

struct Base {
    int base;
};
struct Other {
    int other;
};
struct Derived : Other, Base {
};

void
full_pointers(void **)
{
    auto *alloc = make<hipc::ScalablePageAllocator>(test_name("full"));
    hipc::FullPtr<int> numbers = alloc->AllocateObjs<int>(HSHM_MCTX, 10);
    for (int i = 0; i < 10; i++)
        numbers[static_cast<size_t>(i)] = i;
    /* Of each of its halves alone. */
    const hipc::FullPtr<int> from_address(numbers.ptr_);
    const hipc::FullPtr<int> from_pointer(numbers.shm_);
    assert_true(from_address == numbers && from_pointer == numbers);
    assert_true(hipc::FullPtr<int>(alloc, numbers.ptr_) == numbers);
    assert_true(hipc::FullPtr<int>(alloc, numbers.shm_.ToOffsetPointer()) == numbers);
    int local = 0;
    const hipc::FullPtr<int> foreign(&local);
    assert_true(foreign.ptr_ == &local && foreign.shm_.IsNull());
    const hipc::FullPtr<int> nowhere(hipc::Pointer(hipc::AllocatorId(8, 8), 64));
    assert_true(nowhere.IsNull() && nowhere.shm_.IsNull());

    assert_int_equal(*(numbers + 3), 3);
    assert_int_equal((numbers + 3).shm_.off_.load(), numbers.shm_.off_.load() + 3 * sizeof(int));
    hipc::FullPtr<int> at = numbers;
    at += 4;
    at -= 2;
    assert_int_equal(*++at, 3);
    assert_int_equal(*--at, 2);
    assert_true(at - 2 == numbers && at != numbers && at);

    const hipc::FullPtr<char> bytes = numbers.Cast<char>();
    assert_ptr_equal(bytes.ptr_, numbers.ptr_);
    assert_true(bytes.shm_ == numbers.shm_ && bytes.Cast<int>() == numbers);
    const hipc::FullPtr<void> untyped = numbers;
    assert_ptr_equal(untyped.ptr_, numbers.ptr_);

    /* A base class lies elsewhere in the object. */
    auto object = alloc->NewObj<Derived>(HSHM_MCTX);
    object->base = 9;
    const hipc::FullPtr<Base> part = object;
    assert_int_equal(part->base, 9);
    assert_ptr_equal(hipc::FullPtr<Base>(part.shm_).ptr_, part.ptr_);
    assert_ptr_not_equal(static_cast<void *>(part.ptr_), static_cast<void *>(object.ptr_));

    hipc::FullPtr<int> null;
    assert_true(null.IsNull() && !null && hipc::FullPtr<int>::GetNull() == null);
    at.SetNull();
    assert_true(at == null);
    assert_true(alloc->DelObj(HSHM_MCTX, object) && object.IsNull());
    assert_true(alloc->Free(HSHM_MCTX, numbers) && numbers.IsNull());
    assert_true(alloc->Free(HSHM_MCTX, null));
    drop();
}

/* ---- the manager ---- */

void
backends_come_and_go(void **)
{
    const std::string name = test_name("backend");
    hipc::MemoryBackend *backend = manager()->CreateBackend<hipc::PosixShmMmap>(backend_id, MIB, name);
    assert_non_null(backend);
    assert_ptr_equal(manager()->GetBackend(backend_id), backend);
    assert_true(backend->GetId() == backend_id && backend->IsOwned());
    assert_true(backend->GetType() == hipc::MemoryBackendType::kPosixShmMmap);
    assert_true(backend->GetSize() >= MIB);
    assert_null(manager()->CreateBackend<hipc::PosixShmMmap>(backend_id, MIB, test_name("other")));
    assert_int_equal(hshm_last_status(), HSHM_E_EXISTS);
    assert_null(manager()->CreateBackend<hipc::PosixShmMmap>(hipc::MemoryBackendId::Get(1), MIB, name));
    assert_int_equal(hshm_last_status(), HSHM_E_BUSY);
    manager()->ScanBackends();
    assert_true(manager()->DestroyBackend(backend_id));
    assert_false(manager()->DestroyBackend(backend_id));
    assert_null(manager()->GetBackend(backend_id));
    assert_null(manager()->AttachBackend(hipc::MemoryBackendType::kPosixShmMmap, name));
    assert_int_equal(hshm_last_status(), HSHM_E_NOTFOUND);
    assert_null(manager()->AttachBackend(static_cast<hipc::MemoryBackendType>(77), name));
    assert_int_equal(hshm_last_status(), HSHM_E_INVAL);
}

template <typename BackendT, typename... Args>
void
serves(hipc::MemoryBackendType type, Args... args)
{
    hipc::MemoryBackend *backend = manager()->CreateBackendWithUrl<BackendT>(backend_id, MIB, args...);
    assert_non_null(backend);
    assert_true(backend->GetType() == type);
    assert_non_null(manager()->CreateAllocator<hipc::ThreadLocalAllocator>(backend_id, alloc_id, 8));
    auto *alloc = manager()->GetAllocator<hipc::ThreadLocalAllocator>(alloc_id);
    auto block = alloc->Allocate(HSHM_MCTX, 100);
    assert_false(block.IsNull());
    assert_true(alloc->Free(HSHM_MCTX, block));
    drop();
}

void
all_backends_of_the_host_serve(void **)
{
    alignas(64) static unsigned char array[1 << 20];
    serves<hipc::PosixShmMmap>(hipc::MemoryBackendType::kPosixShmMmap, test_name("shm"));
    serves<hipc::PosixMmap>(hipc::MemoryBackendType::kPosixMmap, test_path("file"));
    serves<hipc::MallocBackend>(hipc::MemoryBackendType::kMallocBackend, "not used");
    serves<hipc::ArrayBackend>(hipc::MemoryBackendType::kArrayBackend, "not used", array);
    assert_non_null(manager()->CreateBackend<hipc::MallocBackend>(backend_id, MIB));
    drop();
    assert_non_null(manager()->CreateBackend<hipc::ArrayBackend>(backend_id, sizeof array, array));
    drop();
}

/* Without a driver they say so; with one, they are there. */
void
gpu_backends_are_there_or_say_why_not(void **)
{
    const auto is_answered = [](const hipc::MemoryBackend *backend) {
        const bool said = backend != nullptr || (hshm_last_status() == HSHM_E_DEVICE && hshm_last_error()[0] != '\0');
        (void)manager()->DestroyBackend(backend_id);
        return said;
    };
    assert_true(is_answered(manager()->CreateBackend<hipc::GpuMalloc>(backend_id, MIB, test_name("gpu"))));
    assert_true(is_answered(manager()->CreateBackend<hipc::GpuMalloc>(backend_id, MIB, test_name("gpu"), 0)));
    assert_null(manager()->CreateBackend<hipc::GpuMalloc>(backend_id, MIB, test_name("gpu"), 1000));
    assert_true(
        is_answered(manager()->CreateBackendWithUrl<hipc::GpuShmMmap>(backend_id, MIB, test_name("gpushm"), 0)));
}

void
a_file_persists(void **)
{
    const std::string path = test_path("persists");
    assert_non_null(manager()->CreateBackend<hipc::PosixMmap>(backend_id, MIB, path));
    auto *alloc = manager()->CreateAllocator<hipc::StackAllocator>(backend_id, alloc_id, sizeof(long));
    *alloc->GetCustomHeader<long>() = 77;
    assert_true(manager()->UnregisterBackend(backend_id));
    assert_null(manager()->GetAllocator<hipc::StackAllocator>(alloc_id));
    assert_non_null(manager()->AttachBackend(hipc::MemoryBackendType::kPosixMmap, path));
    assert_int_equal(*manager()->GetAllocator<hipc::StackAllocator>(alloc_id)->GetCustomHeader<long>(), 77);
    assert_true(manager()->DestroyBackend(backend_id));
    assert_ok(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, path.c_str()));
}

void
allocators_are_known_by_id_and_kind(void **)
{
    auto *alloc = make<hipc::ThreadLocalAllocator>(test_name("kinds"), MIB, 100);
    assert_true(alloc->GetId() == alloc_id);
    assert_true(alloc->GetType() == hipc::AllocatorType::kThreadLocalAllocator);
    assert_null(manager()->GetAllocator<hipc::StackAllocator>(alloc_id));
    assert_int_equal(hshm_last_status(), HSHM_E_KIND);
    assert_ptr_equal(manager()->GetAllocator<hipc::Allocator>(alloc_id), alloc);
    assert_null(manager()->GetAllocator<hipc::ThreadLocalAllocator>(hipc::AllocatorId(9, 9)));
    assert_null(manager()->CreateAllocator<hipc::StackAllocator>(backend_id, hipc::AllocatorId(2, 0), 0));
    assert_int_equal(hshm_last_status(), HSHM_E_EXISTS);
    /* The header is as large as was asked for, and no larger. */
    assert_non_null(alloc->GetCustomHeader<char[100]>());
    assert_null(alloc->GetCustomHeader<char[101]>());

    assert_true(manager()->UnregisterAllocator(alloc_id));
    assert_false(manager()->UnregisterAllocator(alloc_id));
    assert_null(manager()->GetAllocator<hipc::ThreadLocalAllocator>(alloc_id));
    assert_ptr_equal(manager()->RegisterAllocator(alloc), alloc);
    assert_ptr_equal(manager()->GetAllocator<hipc::ThreadLocalAllocator>(alloc_id), alloc);
    assert_null(manager()->RegisterAllocator(nullptr));
    drop();
}

void
malloc_is_for_one_process(void **)
{
    assert_non_null(manager()->CreateBackend<hipc::PosixShmMmap>(backend_id, MIB, test_name("malloc")));
    assert_null(manager()->CreateAllocator<hipc::MallocAllocator>(backend_id, alloc_id, 0));
    assert_int_equal(hshm_last_status(), HSHM_E_NOTSUP);
    drop();
    assert_non_null(manager()->CreateBackend<hipc::MallocBackend>(backend_id, MIB));
    auto *alloc = manager()->CreateAllocator<hipc::MallocAllocator>(backend_id, alloc_id, 8);
    auto block = alloc->Allocate(HSHM_MCTX, 100);
    assert_true(alloc->ContainsPtr(block.ptr_));
    assert_ptr_equal(manager()->Convert<char>(block.shm_), block.ptr_);
    assert_true(alloc->Free(HSHM_MCTX, block));
    drop();
}

void
there_is_always_a_default_allocator(void **)
{
    hipc::Allocator *root = manager()->GetDefaultAllocator();
    assert_non_null(root);
    auto block = root->Allocate(HSHM_MCTX, 1000);
    assert_false(block.IsNull());
    assert_true(root->Free(HSHM_MCTX, block));
    assert_null(manager()->GetDefaultAllocator<hipc::StackAllocator>());
    assert_non_null(manager()->GetDefaultAllocator<hipc::MallocAllocator>());

    auto *alloc = make<hipc::StackAllocator>(test_name("default"));
    manager()->SetDefaultAllocator(alloc);
    assert_ptr_equal(manager()->GetDefaultAllocator(), alloc);
    assert_ptr_equal(manager()->GetDefaultAllocator<hipc::StackAllocator>(), alloc);
    assert_null(manager()->GetDefaultAllocator<hipc::MallocAllocator>());
    manager()->UnregisterAllocator(alloc_id);
    assert_ptr_equal(manager()->GetDefaultAllocator(), root);
    drop();
    manager()->SetDefaultAllocator<hipc::Allocator>(nullptr);
    assert_ptr_equal(manager()->GetDefaultAllocator(), root);
    hshm_manager_destroy(nullptr);
    assert_non_null(manager()->GetDefaultAllocator());
}

/* ---- blocks ---- */

template <typename AllocT>
void
blocks_of()
{
    auto *alloc = make<AllocT>(test_name("blocks"));
    auto block = alloc->Allocate(HSHM_MCTX, 1024);
    assert_false(block.IsNull());
    assert_true(alloc->ContainsPtr(block.ptr_) && !alloc->ContainsPtr(&alloc) &&
                !alloc->template ContainsPtr<char>(nullptr));
    assert_true(alloc->GetCurrentlyAllocatedSize() >= 1024);
    assert_int_equal(alloc->Stats().live_blocks, 1);

    /* There and back, by allocator and by manager. */
    const hipc::Pointer travels = alloc->Convert(block.ptr_);
    assert_true(travels == block.shm_);
    assert_ptr_equal(alloc->template Convert<char>(travels), block.ptr_);
    assert_ptr_equal(alloc->template Convert<char>(hipc::OffsetPointer(travels.off_.load())), block.ptr_);
    assert_ptr_equal(manager()->Convert<char>(travels), block.ptr_);
    assert_true(manager()->Convert(block.ptr_) == travels && manager()->Convert(alloc_id, block.ptr_) == travels);
    assert_null(alloc->template Convert<char>(hipc::Pointer()));
    assert_null(manager()->Convert<char>(hipc::Pointer(hipc::AllocatorId(9, 9), 64)));
    int local = 0;
    assert_true(manager()->Convert(&local).IsNull());

    auto aligned = alloc->AlignedAllocate(HSHM_MCTX, 100, 4096);
    assert_int_equal(reinterpret_cast<std::uintptr_t>(aligned.ptr_) % 4096, 0);
    auto also = alloc->template Allocate<double>(HSHM_MCTX, 100, 64);
    assert_int_equal(reinterpret_cast<std::uintptr_t>(also.ptr_) % 64, 0);
    assert_true(alloc->AlignedAllocate(HSHM_MCTX, 100, 100).IsNull());
    assert_int_equal(hshm_last_status(), HSHM_E_INVAL);

    /* As older programs have it. */
    hipc::Pointer plain = alloc->template Allocate<hipc::Pointer>(HSHM_MCTX, 100);
    auto offset = alloc->template AlignedAllocate<hipc::OffsetPointer>(HSHM_MCTX, 100, 64);
    assert_false(plain.IsNull() || offset.IsNull());
    assert_true(alloc->Reallocate(HSHM_MCTX, plain, 5000));
    assert_true(alloc->Free(HSHM_MCTX, plain) && plain.IsNull());
    assert_true(alloc->Free(HSHM_MCTX, offset));

    std::strcpy(block.ptr_, "kept");
    assert_true(alloc->Reallocate(HSHM_MCTX, block, 100000));
    assert_string_equal(block.ptr_, "kept");
    assert_ptr_equal(alloc->template Convert<char>(block.shm_), block.ptr_);
    assert_true(alloc->Reallocate(HSHM_MCTX, block, 10));
    assert_string_equal(block.ptr_, "kept");
    const auto before = block;
    assert_false(alloc->Reallocate(HSHM_MCTX, block, 64 * MIB));
    assert_true(block == before);
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    assert_true(alloc->Allocate(HSHM_MCTX, 64 * MIB).IsNull());
    hipc::FullPtr<char> fresh;
    assert_true(alloc->Reallocate(HSHM_MCTX, fresh, 10) && !fresh.IsNull());

    /* Freed in each way; a wrong free changes nothing. */
    assert_false(alloc->Free(HSHM_MCTX, &local));
    assert_int_equal(hshm_last_status(), HSHM_E_BADFREE);
    assert_true(alloc->Free(HSHM_MCTX, aligned) && alloc->Free(HSHM_MCTX, also.ptr_));
    const auto copy = block;
    assert_true(alloc->Free(HSHM_MCTX, copy));
    assert_false(alloc->Free(HSHM_MCTX, block));
    assert_true(alloc->Free(HSHM_MCTX, fresh));
    assert_int_equal(alloc->GetCurrentlyAllocatedSize(), 0);
    drop();
}

void
blocks(void **)
{
    blocks_of<hipc::StackAllocator>();
    blocks_of<hipc::ScalablePageAllocator>();
    blocks_of<hipc::ThreadLocalAllocator>();
}

/* At the same offset, but another heap's. */
void
a_pointer_of_another_heap_is_refused(void **)
{
    auto *mine = make<hipc::ScalablePageAllocator>(test_name("mine"));
    const auto other_id = hipc::MemoryBackendId::Get(1);
    manager()->CreateBackend<hipc::PosixShmMmap>(other_id, 4 * MIB, test_name("others"));
    auto *others = manager()->CreateAllocator<hipc::ScalablePageAllocator>(other_id, hipc::AllocatorId(2, 0), 0);
    auto here = mine->Allocate<hipc::Pointer>(HSHM_MCTX, 64);
    auto there = others->Allocate<hipc::Pointer>(HSHM_MCTX, 64);
    assert_int_equal(here.off_.load(), there.off_.load());
    assert_false(mine->Free(HSHM_MCTX, there));
    assert_int_equal(hshm_last_status(), HSHM_E_BADFREE);
    assert_false(mine->Reallocate(HSHM_MCTX, there, 4000));
    hipc::FullPtr<char> by_pointer(nullptr, there);
    assert_false(mine->Free(HSHM_MCTX, by_pointer));
    assert_int_equal(mine->Stats().live_blocks, 1);
    assert_int_equal(others->Stats().live_blocks, 1);
    const hipc::Pointer fixed = there;
    assert_true(others->Free(HSHM_MCTX, fixed));
    assert_true(mine->Free(HSHM_MCTX, here));
    assert_true(manager()->DestroyBackend(other_id));
    drop();
}

/* ---- objects ---- */

struct Plain {
    int a;
    double b;
};

struct Counted {
    static inline int live = 0;
    static inline int throw_at = -1;
    int a;
    int b;

    explicit Counted(int x = 1, int y = 2) : a(x), b(y)
    {
        if (live == throw_at)
            throw std::runtime_error("as was asked");
        live++;
    }
    Counted(const Counted &) = delete;
    Counted &operator=(const Counted &) = delete;
    ~Counted() { live--; }
};

void
objects(void **)
{
    auto *alloc = make<hipc::ThreadLocalAllocator>(test_name("objects"));
    auto one = alloc->NewObj<Counted>(HSHM_MCTX, 5, 6);
    assert_int_equal(one->a + one->b, 11);
    auto many = alloc->NewObjs<Counted>(HSHM_MCTX, 10, 7);
    assert_int_equal(many[9].a + many[9].b, 9);
    auto plain = alloc->NewObjs<Counted>(HSHM_MCTX, 3);
    assert_int_equal(Counted::live, 14);
    assert_true(alloc->DelObj(HSHM_MCTX, one) && one.IsNull());
    assert_true(alloc->DelObjs(HSHM_MCTX, many, 10) && many.IsNull());
    assert_true(alloc->DelObjs(HSHM_MCTX, plain.ptr_, 3));
    assert_true(alloc->DelObj(HSHM_MCTX, alloc->NewObj<Counted>(HSHM_MCTX).ptr_));
    assert_true(alloc->DelObj(HSHM_MCTX, one) && alloc->DelObjs(HSHM_MCTX, many, 10));
    assert_int_equal(Counted::live, 0);

    auto numbers = alloc->AllocateObjs<long>(HSHM_MCTX, 10);
    for (long i = 0; i < 10; i++)
        numbers[static_cast<size_t>(i)] = i;
    assert_true(alloc->ReallocateObjs(HSHM_MCTX, numbers, 1000));
    assert_true(alloc->ReallocateConstructObjs(HSHM_MCTX, numbers, 1000, 2000, 44));
    assert_int_equal(numbers[9], 9);
    assert_int_equal(numbers[1999], 44);
    assert_false(alloc->ReallocateObjs(HSHM_MCTX, numbers, SIZE_MAX / 4));
    assert_true(alloc->DelObjs(HSHM_MCTX, numbers, 2000));

    /* Arrays of pointers are what one puts there; structs need no constructor; and const is no hindrance. */
    auto pointers = alloc->NewObjs<hipc::Pointer>(HSHM_MCTX, 10);
    static_assert(std::is_same_v<decltype(pointers), hipc::FullPtr<hipc::Pointer>>);
    assert_true(pointers[9].IsNull());
    assert_true(alloc->ReallocateObjs(HSHM_MCTX, pointers, 20));
    assert_true(alloc->DelObjs(HSHM_MCTX, pointers, 10));
    const auto plain_struct = alloc->NewObj<const Plain>(HSHM_MCTX, 1, 2.5);
    assert_true(plain_struct->b == 2.5);
    assert_true(alloc->DelObj(HSHM_MCTX, plain_struct));
    assert_true(alloc->DelObj(HSHM_MCTX, alloc->NewObj<hipc::AtomicOffsetPointer>(HSHM_MCTX, size_t{ 5 })));

    struct alignas(512) Wide {
        char bytes[512];
    };
    auto wide = alloc->NewObj<Wide>(HSHM_MCTX);
    assert_int_equal(reinterpret_cast<std::uintptr_t>(wide.ptr_) % 512, 0);
    assert_true(alloc->DelObj(HSHM_MCTX, wide));
    assert_true(alloc->NewObjs<Counted>(HSHM_MCTX, SIZE_MAX / 2).IsNull());

    /* What a constructor throws goes through, and nothing is left. */
    for (int at : { 0, 3 }) {
        Counted::throw_at = at;
        bool thrown = false;
        try {
            (void)alloc->NewObjs<Counted>(HSHM_MCTX, 10);
        } catch (const std::runtime_error &) {
            thrown = true;
        }
        assert_true(thrown && Counted::live == 0);
    }
    Counted::throw_at = -1;
    assert_int_equal(alloc->GetCurrentlyAllocatedSize(), 0);
    drop();
}

/* ---- two processes ---- */

struct Shared {
    std::atomic<int> ready;
    hipc::AtomicPointer block;
};

int
attach_and_answer(void *arg)
{
    const char *name = static_cast<const char *>(arg);
    /* As a program that was started by itself: nothing of the parent's. */
    manager()->UnregisterAllocator(alloc_id);
    manager()->DestroyBackend(backend_id);
    for (int i = 0; manager()->AttachBackend(hipc::MemoryBackendType::kPosixShmMmap, name) == nullptr; i++) {
        if (i == 1000)
            return 2;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    auto *alloc = manager()->GetAllocator<hipc::ScalablePageAllocator>(alloc_id);
    auto *header = alloc->GetCustomHeader<Shared>();
    while (header->ready.load() != 1)
        std::this_thread::yield();
    hipc::FullPtr<char> block{ hipc::Pointer(header->block) };
    if (block.IsNull() || std::strcmp(block.ptr_, "for the child") != 0 || !alloc->Free(HSHM_MCTX, block))
        return 3;
    auto answer = alloc->Allocate(HSHM_MCTX, 100);
    std::strcpy(answer.ptr_, "for the parent");
    header->block = hipc::AtomicPointer(answer.shm_);
    header->ready.store(2);
    return manager()->DestroyBackend(backend_id) ? 0 : 4;
}

void
pointers_travel_to_other_processes(void **)
{
    const std::string name = test_name("travel");
    auto *alloc = make<hipc::ScalablePageAllocator>(name.c_str(), 4 * MIB, sizeof(Shared));
    auto *header = alloc->GetCustomHeader<Shared>();
    const pid_t child = child_start(attach_and_answer, const_cast<char *>(name.c_str()));
    auto block = alloc->Allocate(HSHM_MCTX, 100);
    std::strcpy(block.ptr_, "for the child");
    header->block = hipc::AtomicPointer(block.shm_);
    header->ready.store(1);
    assert_int_equal(child_wait(child), 0);
    hipc::FullPtr<char> answer{ hipc::Pointer(header->block) };
    assert_string_equal(answer.ptr_, "for the parent");
    assert_true(alloc->Free(HSHM_MCTX, answer));
    /* The child's clean-up did not take the name. */
    hshm_manager *other = nullptr;
    assert_ok(hshm_manager_create(&other));
    assert_ok(hshm_backend_attach(other, HSHM_BACKEND_POSIX_SHM_MMAP, name.c_str(), nullptr, nullptr));
    hshm_manager_destroy(other);
    drop();
}

int
leave_it_behind(void *arg)
{
    auto *alloc = make<hipc::StackAllocator>(static_cast<const char *>(arg));
    (void)alloc->Allocate(HSHM_MCTX, 100);
    std::raise(SIGKILL);
    return 0;
}

void
a_dead_leftover_is_replaced(void **)
{
    const std::string name = test_name("dead");
    assert_int_equal(child_run(leave_it_behind, const_cast<char *>(name.c_str())), 128 + SIGKILL);
    auto *alloc = make<hipc::StackAllocator>(name.c_str());
    assert_int_equal(alloc->GetCurrentlyAllocatedSize(), 0);
    drop();
}

void
an_attacher_waits_for_the_allocator(void **)
{
    const std::string name = test_name("waits");
    assert_non_null(manager()->CreateBackend<hipc::PosixShmMmap>(backend_id, MIB, name));
    std::thread late([] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        (void)manager()->CreateAllocator<hipc::StackAllocator>(backend_id, alloc_id, 0);
    });
    hshm_attach_options wait = HSHM_ATTACH_OPTIONS_INIT;
    wait.timeout_ms = 10000;
    hshm_manager *other = nullptr;
    assert_ok(hshm_manager_create(&other));
    assert_ok(hshm_backend_attach(other, HSHM_BACKEND_POSIX_SHM_MMAP, name.c_str(), &wait, nullptr));
    late.join();
    hshm_manager_destroy(other);
    drop();
}

int
wait_and_look(void *arg)
{
    hshm_attach_options look = HSHM_ATTACH_OPTIONS_INIT;
    look.timeout_ms = 10000;
    look.read_only = true;
    if (manager()->AttachBackend(hipc::MemoryBackendType::kPosixShmMmap, static_cast<const char *>(arg), look) ==
        nullptr)
        return 1;
    const auto *alloc = manager()->GetAllocator<hipc::StackAllocator>(alloc_id);
    return alloc != nullptr && alloc->Allocate(HSHM_MCTX, 10).IsNull() && hshm_last_status() == HSHM_E_PERM ? 0 : 2;
}

void
an_attacher_waits_for_the_name_if_asked_to(void **)
{
    const std::string name = test_name("later");
    const pid_t child = child_start(wait_and_look, const_cast<char *>(name.c_str()));
    make<hipc::StackAllocator>(name.c_str());
    assert_int_equal(child_wait(child), 0);
    drop();
}

} // namespace

int
main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(ids_and_contexts, drop_all),
        cmocka_unit_test_teardown(offset_pointers, drop_all),
        cmocka_unit_test_teardown(pointers, drop_all),
        cmocka_unit_test_teardown(full_pointers, drop_all),
        cmocka_unit_test_teardown(backends_come_and_go, drop_all),
        cmocka_unit_test_teardown(all_backends_of_the_host_serve, drop_all),
        cmocka_unit_test_teardown(gpu_backends_are_there_or_say_why_not, drop_all),
        cmocka_unit_test_teardown(a_file_persists, drop_all),
        cmocka_unit_test_teardown(allocators_are_known_by_id_and_kind, drop_all),
        cmocka_unit_test_teardown(malloc_is_for_one_process, drop_all),
        cmocka_unit_test_teardown(there_is_always_a_default_allocator, drop_all),
        cmocka_unit_test_teardown(blocks, drop_all),
        cmocka_unit_test_teardown(a_pointer_of_another_heap_is_refused, drop_all),
        cmocka_unit_test_teardown(objects, drop_all),
        cmocka_unit_test_teardown(pointers_travel_to_other_processes, drop_all),
        cmocka_unit_test_teardown(a_dead_leftover_is_replaced, drop_all),
        cmocka_unit_test_teardown(an_attacher_waits_for_the_allocator, drop_all),
        cmocka_unit_test_teardown(an_attacher_waits_for_the_name_if_asked_to, drop_all),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
