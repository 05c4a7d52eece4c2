/*
 * test_heap.cc - owners in C++: what they let go of and when, what they throw, and objects that have names.
 */
#include <hshm/cxx/inline.hpp>
#include <hshm/hshm.hpp>

#include "blocks.h"

#include <cstring>
#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace
{

using namespace std::chrono_literals;
using namespace hshm::literals;

constexpr std::size_t MIB = std::size_t{ 1 } << 20;

bool
name_exists(const char *name)
{
    const hshm_status status = hshm_backend_attach(nullptr, HSHM_BACKEND_POSIX_SHM_MMAP, name, nullptr, nullptr);
    if (status == HSHM_OK) /* ids may be anything; the default manager is empty in these tests */
        hshm_manager_destroy(nullptr);
    return status != HSHM_E_NOTFOUND;
}

/* Runs a function in which no assertion is made, and returns what it threw. */
template <class F>
hshm_status
status_of(F &&call, std::string *ret_sentence = nullptr)
{
    try {
        call();
        return HSHM_OK;
    } catch (const hshm::error &error) {
        if (ret_sentence != nullptr)
            *ret_sentence = error.what();
        return error.status();
    }
}

/* ---- owners ---- */

void
the_last_handle_lets_go_of_all(void **)
{
    const std::string name = test_name("last");
    const footprint before = footprint_take();
    {
        hshm::heap heap = hshm::heap::create(name, MIB);
        assert_true(name_exists(name.c_str()));
        hshm::heap copy = heap;
        heap = hshm::heap();
        assert_false(heap);
        void *block = copy.allocate(100);
        copy.deallocate(block);
        hshm::heap moved = std::move(copy);
        assert_non_null(moved.allocate(100));
        assert_true(name_exists(name.c_str()));
    }
    assert_false(name_exists(name.c_str()));
    assert_footprint(before);
}

void
an_attacher_removes_no_name(void **)
{
    const std::string name = test_name("attacher");
    hshm::heap made = hshm::heap::create(name, MIB);
    const footprint before = footprint_take();
    {
        hshm::heap attached = hshm::heap::attach(name);
        attached.region().info();
        hshm::backend region = attached.region();
        region.when_it_ends(hshm::at_end::remove);
        assert_ptr_not_equal(attached.base(), made.base());
    }
    assert_true(name_exists(name.c_str()));
    assert_footprint(before);
}

void
a_name_can_be_kept(void **)
{
    const std::string name = test_name("kept");
    hshm::heap_options options;
    options.end = hshm::at_end::keep;
    const footprint before = footprint_take();
    {
        hshm::heap heap = hshm::heap::create(name, MIB, options);
        *heap.construct_named<int>("answer") = 42;
    }
    assert_true(name_exists(name.c_str()));
    assert_int_equal(*hshm::heap::attach(name).find<int>("answer"), 42);
    /* Nobody lives there any more, so the next one may have the name. */
    options.end = hshm::at_end::automatic;
    assert_int_equal(status_of([&] { hshm::heap::create(name, MIB, options); }), HSHM_E_EXISTS);
    options.backend.replace = HSHM_REPLACE_DEAD;
    hshm::heap::create(name, MIB, options);
    assert_false(name_exists(name.c_str()));
    assert_footprint(before);
}

void
a_file_stays_unless_it_is_to_go(void **)
{
    const std::string path = test_path("file");
    hshm::heap_options options;
    options.kind = HSHM_BACKEND_POSIX_MMAP;
    {
        hshm::heap heap = hshm::heap::create(path, MIB, options);
        heap.construct_named<double>("pi", 3.25);
        heap.region().sync();
    }
    hshm_attach_options attach = HSHM_ATTACH_OPTIONS_INIT;
    {
        hshm::heap again = hshm::heap::attach(HSHM_BACKEND_POSIX_MMAP, path, attach);
        assert_true(*again.find<double>("pi") == 3.25);
    }
    assert_ok(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, path.c_str()));
    options.end = hshm::at_end::remove;
    hshm::heap::create(path, MIB, options);
    assert_int_equal(status_of([&] { hshm::heap::attach(HSHM_BACKEND_POSIX_MMAP, path, attach); }), HSHM_E_NOTFOUND);
}

void
what_is_held_keeps_its_heap(void **)
{
    const std::string name = test_name("held");
    const footprint before = footprint_take();
    hshm::unique_ptr<int> object;
    hshm::unique_ptr<long[]> array;
    hshm::block block;
    {
        hshm::heap heap = hshm::heap::create(name, MIB);
        object = heap.make_unique<int>(5);
        array = heap.make_unique<long[]>(100);
        block = heap.make_block(1000, 256);
        assert_int_equal(reinterpret_cast<std::uintptr_t>(block.data()) % 256, 0);
        assert_true(block.size() >= 1000);
        assert_int_equal(heap.stats().live_blocks, 3);
    }
    assert_true(name_exists(name.c_str()));
    assert_int_equal(*object, 5);
    assert_int_equal(array[99], 0);
    const hshm::heap still = object.get_deleter().in;
    object.reset();
    array.reset();
    block.reset();
    assert_null(block.data());
    assert_int_equal(still.stats().live_blocks, 0);
    const_cast<hshm::heap &>(still) = hshm::heap();
    object = hshm::unique_ptr<int>();
    array = hshm::unique_ptr<long[]>();
    assert_false(name_exists(name.c_str()));
    assert_footprint(before);
}

void
a_heap_can_be_closed_under_what_is_held(void **)
{
    const footprint before = footprint_take();
    {
        hshm::heap heap = hshm::heap::create(test_name("closed"), MIB);
        hshm::unique_ptr<int> object = heap.make_unique<int>(5);
        hshm::block block = heap.make_block(10);
        hshm::heap copy = heap;
        heap.close();
        assert_false(heap);
        assert_false(copy.region());
        copy.close();
    }
    assert_footprint(before);
}

/* Released, a block goes on without an owner. */
void
a_released_block_stays(void **)
{
    hshm::heap heap = hshm::heap::create(test_name("released"), MIB);
    void *addr = nullptr;
    {
        hshm::block block = heap.make_block(100);
        addr = block.release();
        hshm::block moved = heap.make_block(50);
        hshm::block other = std::move(moved);
        assert_null(moved.data());
        other = heap.make_block(20);
    }
    assert_int_equal(heap.stats().live_blocks, 1);
    heap.deallocate(addr);
}

void
backends_and_managers_by_hand(void **)
{
    const footprint before = footprint_take();
    {
        hshm::manager own = hshm::manager::create();
        hshm::heap heap;
        {
            hshm::backend region = hshm::backend::create(own, 7, HSHM_BACKEND_MALLOC, MIB, nullptr);
            heap = hshm::heap::create(region, { 3, 4 }, HSHM_ALLOCATOR_STACK, 100);
            assert_int_equal(region.id(), 7);
            assert_ptr_equal(region.in().get(), own.get());
            assert_int_equal(hshm::heap::of(region).id().major, 3);
        }
        assert_int_equal(heap.id().minor, 4);
        assert_int_equal(heap.kind(), HSHM_ALLOCATOR_STACK);
        int *number = heap.construct<int>(9);
        const hshm_shm_ptr travels = heap.to_shared(number);
        assert_ptr_equal(own.resolve<int>(travels), number);
        assert_int_equal(own.identify(number).off, travels.off);
        assert_ptr_equal(heap.to_address<int>(heap.to_offset(number)), number);
        assert_int_equal(status_of([] { hshm::manager().identify("nowhere"); }), HSHM_E_NOTFOUND);
        assert_null(own.resolve(std::nothrow, { { 9, 9 }, 64 }));
        assert_int_equal(hshm_last_status(), HSHM_E_NOTFOUND);
        /* The manager ends after the heap in it, whichever handle goes first. */
        own = hshm::manager();
        assert_true(own.is_default());
        assert_int_equal(*number, 9);
    }
    assert_footprint(before);
}

/* A heap that C owns. */
void
a_borrowed_heap_is_not_ended(void **)
{
    hshm_allocator *handle = make_heap(nullptr, HSHM_BACKEND_MALLOC, nullptr, MIB, HSHM_ALLOCATOR_SCALABLE_PAGE);
    {
        hshm::heap view(handle);
        hshm::unique_ptr<int> object = view.make_unique<int>(1);
        assert_false(view.region());
    }
    assert_int_equal(hshm::heap(handle).stats().live_blocks, 0);
    assert_non_null(hshm_malloc(handle, 10));
    assert_ok(hshm_backend_destroy(nullptr, 1));
}

void
what_was_moved_from_or_closed_says_so(void **)
{
    const footprint before = footprint_take();
    {
        hshm::heap heap = hshm::heap::create(test_name("moved"), MIB);
        hshm::heap moved = std::move(heap);
        assert_false(heap);
        assert_null(heap.get());
        hshm::backend region = moved.region();
        hshm::backend other = std::move(region);
        assert_false(region);
        assert_null(region.get());
        heap = std::move(moved);
        hshm::heap &same = heap;
        heap = std::move(same);
        assert_true(heap && other);

        hshm::heap copy = heap;
        hshm::block block = copy.make_block(100);
        hshm::memory_resource resource(copy);
        heap.close();
        assert_false(copy);
        assert_int_equal(block.size(), 0);
        assert_int_equal(block.offset(), HSHM_OFF_NULL);
        assert_int_equal(status_of([&] { (void)resource.allocate(10); }), HSHM_E_INVAL);
        assert_int_equal(status_of([&] { hshm::heap::of(other); }), HSHM_E_INVAL);
        assert_int_equal(status_of([&] { hshm::heap::create(other, { 1, 0 }, HSHM_ALLOCATOR_STACK); }), HSHM_E_INVAL);
    }
    assert_footprint(before);
    /* No backend is not backend 0. */
    assert_ok(hshm_backend_create(nullptr, 0, HSHM_BACKEND_MALLOC, MIB, nullptr, nullptr, nullptr));
    assert_int_equal(status_of([] {
                         hshm::heap::create(hshm::backend(), { 1, 0 }, HSHM_ALLOCATOR_STACK);
                     }),
                     HSHM_E_INVAL);
    assert_int_equal(status_of([] { hshm::heap::of(hshm::backend()); }), HSHM_E_INVAL);
    hshm::backend bare = hshm::backend::create(hshm::manager::create(), 3, HSHM_BACKEND_MALLOC, MIB, nullptr);
    assert_int_equal(status_of([&] { hshm::heap::of(bare); }), HSHM_E_NOTREADY);
    hshm_manager_destroy(nullptr);
}

/* One array, two managers: each has a handle of its own. */
void
a_backend_has_its_own_heap(void **)
{
    alignas(64) static unsigned char array[1 << 16];
    hshm::heap_options options;
    options.kind = HSHM_BACKEND_ARRAY;
    options.cut = HSHM_ALLOCATOR_STACK;
    options.backend.array = array;
    hshm::heap first = hshm::heap::create(nullptr, sizeof array, options);
    hshm_attach_options attach = HSHM_ATTACH_OPTIONS_INIT;
    attach.array = array;
    attach.array_size = sizeof array;
    hshm::heap second = hshm::heap::attach(HSHM_BACKEND_ARRAY, "", attach);
    assert_ptr_not_equal(first.get(), second.get());
    void *block = first.allocate(100);
    first = hshm::heap();
    second.deallocate(block);
    assert_non_null(second.allocate(100));
}

/* ---- the end of a program ---- */

int
leave_all_to_statics(void *arg)
{
    const char *name = static_cast<const char *>(arg);
    /* Those that are made first end last: the first ones need the later ones. */
    static hshm::unique_ptr<int> first;
    static hshm::block second;
    static hshm::heap heap = hshm::heap::create(name, MIB);
    static hshm::heap attached = hshm::heap::attach(name);
    static hshm::unique_ptr<std::array<int, 100>> last = attached.make_unique<std::array<int, 100>>();
    static std::thread::id here = std::this_thread::get_id();
    first = heap.make_unique<int>(1);
    second = attached.make_block(10);
    std::thread([] { static thread_local hshm::block mine = heap.make_block(30); }).join();
    std::exit(here == std::this_thread::get_id() && last ? 0 : 1);
}

void
the_order_in_which_statics_end_does_not_matter(void **)
{
    const std::string name = test_name("statics");
    assert_int_equal(child_run(leave_all_to_statics, const_cast<char *>(name.c_str())), 0);
    assert_false(name_exists(name.c_str()));
}

int
end_as_a_child(void *arg)
{
    /* What the parent made is copied, and ended here once more. */
    hshm::heap *heap = static_cast<hshm::heap *>(arg);
    hshm::unique_ptr<int> object = heap->make_unique<int>(3);
    object.reset();
    object.get_deleter() = {};
    *heap = hshm::heap();
    return 0;
}

void
a_forked_child_removes_no_name(void **)
{
    const std::string name = test_name("parent");
    hshm::heap heap = hshm::heap::create(name, MIB);
    assert_int_equal(child_run(end_as_a_child, &heap), 0);
    assert_true(name_exists(name.c_str()));
    assert_int_equal(heap.stats().live_blocks, 0);
}

/* ---- errors ---- */

void
what_is_thrown_says_what_happened(void **)
{
    std::string sentence;
    const std::string name = test_name("none");
    assert_int_equal(status_of([&] { hshm::heap::attach(name); }, &sentence), HSHM_E_NOTFOUND);
    assert_true(sentence.find(name) != std::string::npos);
    assert_int_equal(status_of([&] { hshm::heap::attach(name, 1ms); }), HSHM_E_TIMEOUT);
    assert_int_equal(status_of([&] { hshm::heap::create("no/slash", MIB); }, &sentence), HSHM_E_INVAL);
    assert_int_equal(status_of([&] { hshm::heap::create(name, 10); }), HSHM_E_INVAL);
    hshm::heap heap = hshm::heap::create(name, MIB);
    assert_int_equal(status_of([&] { hshm::heap::create(name, MIB); }), HSHM_E_EXISTS);
    int local = 0;
    assert_int_equal(status_of([&] { heap.deallocate(&local); }, &sentence), HSHM_E_BADFREE);
    assert_true(sentence == hshm_last_error());
    assert_int_equal(heap.deallocate(std::nothrow, &local), HSHM_E_BADFREE);
    assert_int_equal(status_of([&] { heap.header<int>(); }), HSHM_E_INVAL);
    assert_int_equal(status_of([&] { heap.check(0x80); }), HSHM_E_INVAL);
}

void
a_full_heap_is_a_bad_alloc(void **)
{
    hshm::heap heap = hshm::heap::create(test_name("full"), MIB);
    const auto asks = [&](auto &&ask) {
        int caught = 0;
        try {
            ask();
        } catch (const std::bad_alloc &error) {
            const hshm::error *ours = dynamic_cast<const hshm::error *>(&error);
            caught = ours != nullptr && ours->status() == HSHM_E_NOMEM && std::string(error.what()) == ours->what() &&
                     std::string(error.what()).find("has no room") != std::string::npos;
        }
        return caught == 1;
    };
    assert_true(asks([&] { heap.allocate(2 * MIB); }));
    assert_true(asks([&] { heap.allocate_aligned(4096, 2 * MIB); }));
    assert_true(asks([&] { heap.reallocate(nullptr, 2 * MIB); }));
    assert_true(asks([&] { heap.make_block(2 * MIB); }));
    assert_true(asks([&] { heap.construct_array<char>(2 * MIB); }));
    volatile std::size_t far_too_many = SIZE_MAX / 4; /* whose bytes are no size_t; the compiler would warn of it */
    assert_true(asks([&] { heap.construct_array<double>(far_too_many); }));
    assert_true(asks([&] { hshm::vector<int>(heap).resize(MIB); }));
    assert_true(asks([&] { hshm::vector<int>(heap).reserve(far_too_many / 4); }));
    assert_true(asks([&] { (void)hshm::memory_resource(heap).allocate(2 * MIB); }));
    assert_null(heap.allocate(std::nothrow, 2 * MIB));
    assert_null(heap.allocate_aligned(std::nothrow, 64, 2 * MIB));
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    assert_int_equal(heap.stats().live_blocks, 0);
    /* Other failures are std::exceptions, and no bad_allocs. */
    bool bad_alloc = true;
    try {
        hshm::heap::attach("hshm-test-nothing-has-this-name");
    } catch (const std::bad_alloc &) {
    } catch (const std::exception &error) {
        bad_alloc = false;
        assert_true(std::string(error.what()).find("hshm-test-nothing") != std::string::npos);
    }
    assert_false(bad_alloc);
}

void
nothing_is_left_of_what_failed(void **)
{
    const std::string name = test_name("failed");
    const footprint before = footprint_take();
    hshm::heap_options options;
    options.custom_header = 2 * MIB;
    assert_int_equal(status_of([&] { hshm::heap::create(name, MIB, options); }), HSHM_E_INVAL);
    options.custom_header = 0;
    options.cut = HSHM_ALLOCATOR_MALLOC;
    assert_false(hshm::heap::create(std::nothrow, name.c_str(), MIB, options));
    assert_int_equal(hshm_last_status(), HSHM_E_NOTSUP);
    assert_false(hshm::heap::attach(std::nothrow, name.c_str()));
    assert_int_equal(hshm_last_status(), HSHM_E_NOTFOUND);
    assert_false(hshm::backend::create(std::nothrow, hshm::manager(), 1, HSHM_BACKEND_POSIX_SHM_MMAP, 1, name.c_str()));
    assert_false(name_exists(name.c_str()));
    assert_footprint(before);
}

/* ---- objects ---- */

struct counted {
    static inline int live = 0;
    static inline int throw_at = -1;
    int number;

    explicit counted(int n = 0) : number(n)
    {
        if (live == throw_at)
            throw std::runtime_error("as was asked");
        live++;
    }
    counted(const counted &) = delete;
    counted &operator=(const counted &) = delete;
    ~counted() { live--; }
};

struct alignas(128) wide {
    double values[16];
};

void
objects_are_made_and_destroyed(void **)
{
    hshm::heap heap = hshm::heap::create(test_name("objects"), MIB);
    counted *one = heap.construct<counted>(5);
    counted *many = heap.construct_array<counted>(10, 7);
    assert_int_equal(counted::live, 11);
    assert_int_equal(one->number, 5);
    assert_int_equal(many[9].number, 7);
    wide *aligned = heap.construct<wide>();
    assert_int_equal(reinterpret_cast<std::uintptr_t>(aligned) % 128, 0);
    {
        auto owned = heap.make_unique<counted>(3);
        auto array = heap.make_unique<counted[]>(4, 9);
        assert_int_equal(counted::live, 16);
    }
    heap.destroy(one);
    heap.destroy_array(many, 10);
    heap.destroy(aligned);
    heap.destroy<int>(nullptr);
    assert_int_equal(counted::live, 0);
    assert_int_equal(heap.stats().live_blocks, 0);
}

void
a_constructor_that_throws_leaves_nothing(void **)
{
    hshm::heap heap = hshm::heap::create(test_name("throws"), MIB);
    const auto thrown = [](auto &&make) {
        try {
            make();
        } catch (const std::runtime_error &) {
            return true;
        }
        return false;
    };
    counted::throw_at = 0;
    assert_true(thrown([&] { heap.construct<counted>(1); }));
    assert_true(thrown([&] { heap.construct_named<counted>("c", 1); }));
    assert_true(thrown([&] { heap.find_or_construct<counted>("c", 1); }));
    counted::throw_at = 3;
    assert_true(thrown([&] { heap.construct_array<counted>(10, 1); }));
    assert_true(thrown([&] { heap.make_unique<counted[]>(5); }));
    assert_true(thrown([&] { heap.construct_named_array<counted>("c", 5); }));
    counted::throw_at = -1;
    assert_int_equal(counted::live, 0);
    assert_int_equal(heap.stats().live_blocks, 0);
    assert_null(heap.find<counted>("c"));
}

void
named_objects_are_found_by_type(void **)
{
    const std::string name = test_name("named");
    hshm::heap heap = hshm::heap::create(name, MIB);
    hshm::heap other = hshm::heap::attach(name);
    int *made = heap.construct_named<int>("number", 5);
    int *found = other.find<int>("number");
    assert_non_null(found);
    assert_int_equal(*found, 5);
    assert_int_equal(other.to_offset(found), heap.to_offset(made));
    assert_null(other.find<unsigned>("number"));
    assert_null(other.find<int>("nothing"));
    std::size_t count = 0;
    assert_null(other.find_array<int>("number", &count));
    assert_int_equal(status_of([&] { heap.construct_named<int>("number", 6); }), HSHM_E_EXISTS);
    assert_int_equal(status_of([&] { heap.find_or_construct<long>("number"); }), HSHM_E_KIND);
    assert_int_equal(status_of([&] { heap.construct_named<int>("", 6); }), HSHM_E_INVAL);
    assert_int_equal(status_of([&] { heap.find<int>(nullptr); }), HSHM_E_INVAL);
    assert_int_equal(heap.stats().live_blocks, 1);

    heap.construct_named_array<short>("shorts", 30, short{ 4 });
    short *shorts = other.find_array<short>("shorts", &count);
    assert_int_equal(count, 30);
    assert_int_equal(shorts[29], 4);
    assert_null(other.find<short>("shorts"));

    wide *aligned = other.find_or_construct<wide>("wide");
    assert_int_equal(reinterpret_cast<std::uintptr_t>(aligned) % 128, 0);
    assert_int_equal(heap.to_offset(heap.find_or_construct<wide>("wide")), other.to_offset(aligned));

    /* What C named has no type. */
    void *plain = hshm_malloc(heap.get(), 64);
    std::memset(plain, 0, 64);
    assert_ok(hshm_name_set(heap.get(), "plain", plain));
    assert_null(other.find<int>("plain"));
    assert_false(other.destroy_named<int>("plain"));
    int names = 0;
    heap.for_each_name([&](const char *, void *) { names++; });
    assert_int_equal(names, 4);

    assert_false(other.destroy_named<unsigned>("number"));
    assert_true(other.destroy_named<int>("number"));
    assert_false(other.destroy_named<int>("number"));
    assert_true(other.destroy_named<short>("shorts"));
    assert_true(heap.destroy_named<wide>("wide"));
    assert_int_equal(heap.stats().live_blocks, 1);
}

struct plain {
    int a;
    double b;
};

void
const_objects_structs_and_empty_arrays(void **)
{
    hshm::heap heap = hshm::heap::create(test_name("odd"), MIB);
    const int *fixed = heap.construct_named<const int>("fixed", 5);
    assert_int_equal(*heap.find<const int>("fixed"), 5);
    assert_ptr_equal(heap.find<int>("fixed"), fixed);
    assert_ptr_equal(heap.find_or_construct<const int>("fixed", 6), fixed);
    assert_true(heap.construct_named<plain>("plain", 1, 2.5)->b == 2.5);
    assert_true(heap.find_or_construct<plain>("plain", 3, 4.5)->b == 2.5);
    hshm::unique_ptr<const plain> look = heap.make_unique<plain>(1, 3.5);
    assert_true(look->b == 3.5);
    heap.destroy(heap.construct<const plain>(2, 1.5));
    auto none = heap.make_unique<const plain[]>(0);
    heap.destroy_array(heap.construct_array<const double>(3, 1.5), 3);

    std::size_t count = 99;
    heap.construct_named_array<double>("empty", 0);
    assert_non_null(heap.find_array<double>("empty", &count));
    assert_int_equal(count, 0);
    assert_null(heap.find<double>("empty"));
    assert_int_equal(hshm_last_status(), HSHM_E_KIND);
    assert_null(heap.find<double>(std::nothrow, "nothing"));
    assert_int_equal(hshm_last_status(), HSHM_E_NOTFOUND);

    /* A count that goes beyond the block is not believed. */
    int *four = heap.construct_named_array<int>("four", 4, 1);
    reinterpret_cast<std::uint64_t *>(four)[-1] = std::uint64_t{ 1 } << 40;
    assert_null(heap.find_array<int>("four", &count));
    reinterpret_cast<std::uint64_t *>(four)[-1] = 4;

    assert_true(heap.destroy_named<const int>("fixed") && heap.destroy_named<plain>("plain"));
    assert_true(heap.destroy_named<double>("empty") && heap.destroy_named<int>("four"));
    look = hshm::unique_ptr<const plain>();
    none = hshm::unique_ptr<const plain[]>();
    assert_int_equal(heap.check().live_blocks, 0);
}

/* A name whose block was freed behind its back has an end, too. */
void
a_name_without_its_block_does_not_hold_up(void **)
{
    hshm::heap heap = hshm::heap::create(test_name("behind"), MIB);
    void *block = heap.allocate(4096);
    heap.set_name("n", block);
    heap.deallocate(block);
    assert_int_equal(status_of([&] { heap.find_or_construct<int>("n", 3); }), HSHM_E_EXISTS);
    assert_int_equal(heap.check().live_blocks, 0);
}

std::atomic<int> alive{ 0 };

struct living {
    std::atomic<std::uint64_t> word{ 0x600d };

    living() { alive++; }
    ~living()
    {
        alive--;
        if (word.exchange(0xdead) != 0x600d)
            alive += 1000000; /* it was not */
    }
};

/* Threads that make and destroy one name at once: each object is destroyed once, and none is lost. */
void
of_those_who_destroy_at_once_one_does(void **)
{
    hshm::heap heap = hshm::heap::create(test_name("destroy"), 16_MiB);
    std::vector<std::thread> threads;
    std::atomic<int> wrong{ 0 };
    for (int i = 0; i < 3; i++) {
        threads.emplace_back([&] {
            for (int round = 0; round < 3000; round++) {
                const hshm_status status = status_of([&] {
                    if (!heap.destroy_named<living>("it"))
                        heap.construct_named<living>("it");
                });
                if (status != HSHM_OK && status != HSHM_E_EXISTS)
                    wrong++;
            }
        });
    }
    for (std::thread &thread : threads)
        thread.join();
    (void)heap.destroy_named<living>("it");
    assert_int_equal(wrong, 0);
    assert_int_equal(alive, 0);
    assert_int_equal(heap.check().live_blocks, 0);
}

int
find_or_construct_at_once(void *arg)
{
    hshm::heap heap = hshm::heap::attach(static_cast<const char *>(arg), 5s);
    for (int i = 0; i < 200; i++) {
        const std::string name = "n" + std::to_string(i % 50);
        auto *number = heap.find_or_construct<std::atomic<int>>(name.c_str(), 0);
        number->fetch_add(1);
    }
    return 0;
}

void
of_those_who_construct_at_once_one_wins(void **)
{
    const std::string name = test_name("race");
    hshm::heap heap = hshm::heap::create(name, 16 * MIB);
    pid_t children[3];
    for (pid_t &child : children)
        child = child_start(find_or_construct_at_once, const_cast<char *>(name.c_str()));
    for (pid_t child : children)
        assert_int_equal(child_wait(child), 0);
    int sum = 0;
    for (int i = 0; i < 50; i++)
        sum += heap.find<std::atomic<int>>(("n" + std::to_string(i)).c_str())->load();
    assert_int_equal(sum, 600);
    assert_int_equal(heap.check().live_blocks, 50);
}

/* ---- blocks of other kinds ---- */

void
named_blocks_and_slots(void **)
{
    const std::string name = test_name("slots");
    hshm::heap heap = hshm::heap::create(name, MIB);
    hshm::heap other = hshm::heap::attach(name);
    assert_null(heap.find_block("buffer"));
    hshm::block block = heap.make_block(100);
    std::strcpy(static_cast<char *>(block.data()), "for all");
    heap.give(block, "buffer");
    assert_null(block.data());
    assert_string_equal(static_cast<char *>(other.find_block("buffer")), "for all");
    /* A name that is taken leaves the block with its owner. */
    hshm::block second = heap.make_block(100);
    assert_int_equal(status_of([&] { heap.give(second, "buffer"); }), HSHM_E_EXISTS);
    assert_non_null(second.data());
    second.reset();

    hshm_slot &slot = heap.name_slot("taken and named as one");
    assert_null(heap.in_slot(slot));
    heap.allocate_to(slot, 200);
    assert_int_equal(status_of([&] { heap.allocate_to(slot, 200); }), HSHM_E_EXISTS);
    assert_int_equal(other.to_offset(other.find_block("taken and named as one")), hshm_slot_load(&slot));
    hshm_slot &to = heap.name_slot("another");
    heap.move(slot, to);
    assert_null(heap.in_slot<int>(slot));
    assert_non_null(heap.in_slot<int>(to));
    heap.free_from(to);
    assert_int_equal(status_of([&] { heap.free_from(to); }), HSHM_E_NOTFOUND);
    heap.deallocate(heap.find_block("buffer"));
    assert_true(heap.remove_name("buffer"));
    assert_false(heap.remove_name("buffer"));
    assert_int_equal(heap.check().live_blocks, 0);
}

void
blocks_of_each_way(void **)
{
    hshm::heap heap = hshm::heap::create(test_name("ways"), 16_MiB);
    const unsigned char *zero = static_cast<unsigned char *>(heap.allocate_zeroed(10, 100));
    for (int i = 0; i < 1000; i++)
        assert_int_equal(zero[i], 0);
    heap.deallocate(const_cast<unsigned char *>(zero));
    void *mine = heap.allocate(100, HSHM_LIFETIME_PROCESS);
    heap.deallocate(mine);
    void *quick = hshm::allocate_inline(heap, 64);
    hshm::deallocate_inline(heap, quick);
    assert_int_equal(status_of([&] { hshm::deallocate_inline(heap, quick); }), HSHM_E_BADFREE);
    assert_int_equal(status_of([&] { hshm::allocate_inline(heap, 1_GiB); }), HSHM_E_NOMEM);
    assert_int_equal(heap.check().live_blocks, 0);
    assert_int_equal(status_of([&] { heap.mark(); }), HSHM_E_KIND);

    hshm::heap_options options;
    options.cut = HSHM_ALLOCATOR_STACK;
    hshm::heap stack = hshm::heap::create(test_name("stack"), 64_KiB, options);
    stack.allocate(100);
    const hshm_stack_height mark = stack.mark();
    for (int i = 0; i < 10; i++)
        stack.allocate(100);
    stack.rewind(mark);
    assert_int_equal(stack.stats().live_blocks, 1);
    assert_int_equal(status_of([&] { stack.allocate(10, HSHM_LIFETIME_PROCESS); }), HSHM_E_NOTSUP);
}

void
who_only_looks_changes_nothing(void **)
{
    const std::string name = test_name("looks");
    hshm::heap heap = hshm::heap::create(name, MIB);
    heap.construct_named<int>("answer", 42);
    hshm::heap looks = hshm::heap::attach_read_only(name, 1s);
    assert_int_equal(*looks.find<int>("answer"), 42);
    assert_int_equal(looks.stats().live_blocks, 1);
    assert_int_equal(status_of([&] { looks.allocate(10); }), HSHM_E_PERM);
    assert_int_equal(status_of([&] { looks.construct_named<int>("more", 1); }), HSHM_E_PERM);
}

/* ---- looking at it ---- */

void
visits_bring_out_what_is_thrown_in_them(void **)
{
    hshm::heap heap = hshm::heap::create(test_name("visit"), MIB);
    for (int i = 0; i < 5; i++)
        heap.allocate(100);
    int seen = 0;
    heap.for_each_block([&](const hshm_block &block) { seen += block.size >= 100; });
    assert_int_equal(seen, 5);
    heap.for_each_block([&](const hshm_block &) { return ++seen < 7; });
    assert_int_equal(seen, 7);
    bool thrown = false;
    try {
        heap.for_each_block([](const hshm_block &) { throw std::runtime_error("enough"); });
    } catch (const std::runtime_error &) {
        thrown = true;
    }
    assert_true(thrown);
    assert_int_equal(heap.check().live_blocks, 5);
    assert_int_equal(heap.recover().processes, 0);
}

void
the_custom_header_has_a_type(void **)
{
    struct header {
        std::atomic<int> users;
        int version;
    };
    hshm::heap_options options;
    options.custom_header = sizeof(header);
    const std::string name = test_name("header");
    hshm::heap heap = hshm::heap::create(name, MIB, options);
    assert_int_equal(heap.header<header>().users.load(), 0);
    heap.header<header>().users = 3;
    assert_int_equal(hshm::heap::attach(name).header<header>().users.load(), 3);
    std::string sentence;
    assert_int_equal(status_of([&] { heap.header<std::array<char, 100>>(); }, &sentence), HSHM_E_INVAL);
    assert_true(sentence.find("has 8 bytes") != std::string::npos && sentence == hshm_last_error());
}

} // namespace

int
main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_handle_lets_go_of_all),
        cmocka_unit_test(an_attacher_removes_no_name),
        cmocka_unit_test(a_name_can_be_kept),
        cmocka_unit_test(a_file_stays_unless_it_is_to_go),
        cmocka_unit_test(what_is_held_keeps_its_heap),
        cmocka_unit_test(a_heap_can_be_closed_under_what_is_held),
        cmocka_unit_test(a_released_block_stays),
        cmocka_unit_test(backends_and_managers_by_hand),
        cmocka_unit_test(a_borrowed_heap_is_not_ended),
        cmocka_unit_test(what_was_moved_from_or_closed_says_so),
        cmocka_unit_test(a_backend_has_its_own_heap),
        cmocka_unit_test(const_objects_structs_and_empty_arrays),
        cmocka_unit_test(a_name_without_its_block_does_not_hold_up),
        cmocka_unit_test(of_those_who_destroy_at_once_one_does),
        cmocka_unit_test(the_order_in_which_statics_end_does_not_matter),
        cmocka_unit_test(a_forked_child_removes_no_name),
        cmocka_unit_test(what_is_thrown_says_what_happened),
        cmocka_unit_test(a_full_heap_is_a_bad_alloc),
        cmocka_unit_test(nothing_is_left_of_what_failed),
        cmocka_unit_test(objects_are_made_and_destroyed),
        cmocka_unit_test(a_constructor_that_throws_leaves_nothing),
        cmocka_unit_test(named_objects_are_found_by_type),
        cmocka_unit_test(of_those_who_construct_at_once_one_wins),
        cmocka_unit_test(named_blocks_and_slots),
        cmocka_unit_test(blocks_of_each_way),
        cmocka_unit_test(who_only_looks_changes_nothing),
        cmocka_unit_test(visits_bring_out_what_is_thrown_in_them),
        cmocka_unit_test(the_custom_header_has_a_type),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
