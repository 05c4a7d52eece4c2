/*
 * heap.hpp - heaps, blocks and objects that let go of what they hold, and objects that have names.
 *
 * Who ends what, and when: region.hpp.  Plain pointers (allocate(), construct()) own nothing: as in C, a block lives until
 * somebody frees it.
 *
 * Objects in a heap
 *   What other processes shall use must not hold addresses: no pointers and references (use offset_ptr), no virtual functions
 *   or bases, no std::string with the usual allocator.  The library refuses what it can see (shareable.hpp).
 *
 * Threads: as the C calls: heaps may be used by many threads; one handle object must not be changed by one thread while
 * another uses it.  None of this is for signal handlers.
 */
#ifndef HSHM_CXX_HEAP_HPP
#define HSHM_CXX_HEAP_HPP

#include <hshm/cxx/error.hpp>
#include <hshm/cxx/region.hpp>
#include <hshm/cxx/shareable.hpp>
#include <hshm/hshm.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

namespace hshm
{

/** Sizes: using namespace hshm::literals; ... 4_GiB. */
inline namespace literals
{
constexpr std::size_t operator""_KiB(unsigned long long n)
{
    return static_cast<std::size_t>(n) << 10;
}
constexpr std::size_t operator""_MiB(unsigned long long n)
{
    return static_cast<std::size_t>(n) << 20;
}
constexpr std::size_t operator""_GiB(unsigned long long n)
{
    return static_cast<std::size_t>(n) << 30;
}
} // namespace literals

/** How heap::create() works. */
struct heap_options {
    hshm_backend_kind kind = HSHM_BACKEND_POSIX_SHM_MMAP;
    hshm_allocator_kind cut = HSHM_ALLOCATOR_THREAD_LOCAL;
    std::size_t custom_header = 0; /**< bytes                                                    */
    at_end end = at_end::automatic;
    hshm_backend_id backend_id = 0;            /**< in a manager of the heap's own: any will do             */
    hshm_allocator_id allocator_id = { 1, 0 }; /**< stands in hshm_shm_ptr                                  */
    hshm_backend_options backend = HSHM_BACKEND_OPTIONS_INIT;
    hshm_allocator_options allocator = HSHM_ALLOCATOR_OPTIONS_INIT;
};

class heap;

/** Bytes in a heap, freed when this ends. */
class block;

namespace detail
{
template <class T> struct deleter;
}

/**
 * An object in a heap, or with T[] an array, destroyed and freed when this ends.  For its own process: it holds addresses.
 * Its deleter holds the heap, also when reset() has emptied it; p = hshm::unique_ptr<T>() lets go of both.
 */
template <class T> using unique_ptr = std::unique_ptr<T, detail::deleter<T>>;

/**
 * Says in a heap which type a named object has.  Made of the type's name as the compiler spells it, of its size and alignment:
 * programs of two compilers (or of two versions of a standard library) agree on numbers and on their own types, and not always
 * on templates, the standard library's among them.  Give a type a spelling to rely on:
 *
 *     template <> inline constexpr const char *hshm::type_name<orders> = "shop.orders/2";
 */
template <class T> inline constexpr const char *type_name = nullptr;

namespace detail
{

constexpr std::uint64_t
hash_of(const char *text, std::uint64_t hash = 0xcbf29ce484222325u) /* FNV-1a */
{
    for (; *text != '\0'; text++)
        hash = (hash ^ static_cast<unsigned char>(*text)) * 0x100000001b3u;
    return hash;
}

/* "... type_text() [with T = int]" of gcc, "... [T = int]" of clang: from the T on they are the same. */
template <class T>
constexpr const char *
type_text()
{
    const char *text = __PRETTY_FUNCTION__;
    for (const char *at = text; *at != '\0'; at++) {
        if (at[0] == 'T' && at[1] == ' ' && at[2] == '=')
            return at;
    }
    return text;
}

/* Compilers have several names for integers, too: "unsigned long" and "long unsigned int". */
template <class T>
constexpr const char *
spelling()
{
    if (type_name<T> != nullptr)
        return type_name<T>;
    if (std::is_integral_v<T> && sizeof(T) > 1)
        return std::is_signed_v<T> ? "signed integer" : "unsigned integer";
    return type_text<T>();
}

template <class T>
constexpr std::uint64_t
type_tag()
{
    const std::uint64_t name = hash_of(spelling<std::remove_cv_t<T>>());
    const std::uint64_t tag = (name ^ sizeof(T)) * 0x100000001b3u ^ alignof(T);
    return tag == 0 ? 1 : tag;
}

/* In a heap, right before each named object. */
struct object_tag {
    std::uint64_t type;  /* type_tag() of one, ~type_tag() of an array */
    std::uint64_t count; /* how many                                    */
};

/*
 * Who looks a name up may read the tag of an object that another is just destroying, whose room goes to the next one: by atomic
 * words, and what it says counts for nothing then.
 */
inline void
write_tag(void *object, const object_tag &tag) noexcept
{
    object_tag *at = static_cast<object_tag *>(object) - 1;
    __atomic_store_n(&at->type, tag.type, __ATOMIC_RELAXED);
    __atomic_store_n(&at->count, tag.count, __ATOMIC_RELAXED);
}

inline object_tag
read_tag(const void *object) noexcept
{
    const object_tag *at = static_cast<const object_tag *>(object) - 1;
    return { __atomic_load_n(&at->type, __ATOMIC_RELAXED), __atomic_load_n(&at->count, __ATOMIC_RELAXED) };
}

/* From the block's begin to the object: so that the object is aligned. */
template <class T>
inline constexpr std::size_t object_off = alignof(T) > sizeof(object_tag) ? alignof(T) : sizeof(object_tag);

inline constexpr std::size_t plain_alignment = 16; /* of every block */

inline void *
take(hshm_allocator *from, std::size_t size, std::size_t alignment) noexcept
{
    return __builtin_expect(alignment <= plain_alignment, 1) ? hshm_malloc(from, size)
                                                             : hshm_aligned_alloc(from, alignment, size);
}

/* T(args...), or T{args...} for structs without constructors. */
template <class T, class... Args>
T *
make_at(void *at, Args &&...args)
{
    if constexpr (std::is_constructible_v<T, Args...>)
        return ::new (at) T(std::forward<Args>(args)...);
    else
        return ::new (at) T{ std::forward<Args>(args)... };
}

/* Calls that must not throw through the C library bring what was thrown here, and let it go on after it. */
template <class F> struct visit_state {
    F &each;
#if defined(__cpp_exceptions)
    std::exception_ptr thrown = nullptr;
#endif
};

template <class F, class... Args>
int
visit_one(visit_state<F> &state, Args... args) noexcept
{
#if defined(__cpp_exceptions)
    try {
#endif
        if constexpr (std::is_same_v<decltype(state.each(args...)), bool>)
            return state.each(args...) ? 0 : 1;
        else
            state.each(args...);
        return 0;
#if defined(__cpp_exceptions)
    } catch (...) {
        state.thrown = std::current_exception();
        return 1;
    }
#endif
}

} // namespace detail

/**
 * A heap: blocks and objects in a region.  Everything of hshm/allocator.h and hshm/name.h, with owners and types.
 * A handle of it costs what the C handle does: allocate() and deallocate() are the C calls and a comparison.
 */
class heap
{
  public:
    /** None.  Calls on it, but for those that look whether it is one, are as wrong as those on a null pointer. */
    heap() noexcept = default;

    /** A view of a heap that the C interface, or the guide's, owns: ends nothing. */
    explicit heap(hshm_allocator *borrowed) noexcept : handle_(borrowed) {}

    /** A new region with a heap in it, in a manager of its own.  `url` as hshm_backend_create() says. */
    static heap create(const char *url, std::size_t size, const heap_options &options = {})
    {
        return or_throw(create(std::nothrow, url, size, options));
    }
    static heap create(const std::string &url, std::size_t size, const heap_options &options = {})
    {
        return create(url.c_str(), size, options);
    }
    static heap create(std::nothrow_t, const char *url, std::size_t size, const heap_options &options = {}) noexcept
    {
        const manager own = manager::create(std::nothrow);
        if (own.is_default())
            return {};
        backend on = backend::create(std::nothrow, own, options.backend_id, options.kind, size, url, &options.backend);
        if (!on)
            return {};
        heap made =
            create(std::nothrow, on, options.allocator_id, options.cut, options.custom_header, &options.allocator);
        if (made)
            on.when_it_ends(options.end);
        else
            on.when_it_ends(at_end::remove); /* what cannot be attached to serves nobody */
        return made;
    }

    /** A heap on a backend, in that one's manager; hshm_allocator_create(). */
    static heap create(const backend &on, hshm_allocator_id id, hshm_allocator_kind cut, std::size_t custom_header = 0,
                       const hshm_allocator_options *options = nullptr)
    {
        return or_throw(create(std::nothrow, on, id, cut, custom_header, options));
    }
    static heap create(std::nothrow_t, const backend &on, hshm_allocator_id id, hshm_allocator_kind cut,
                       std::size_t custom_header = 0, const hshm_allocator_options *options = nullptr) noexcept
    {
        hshm_allocator *made = nullptr;
        if (is_backend(on))
            (void)hshm_allocator_create(on.in().get(), on.id(), id, cut, custom_header, options, &made);
        return made == nullptr ? heap() : heap(made, on);
    }

    /** The heap that another process made under that name, in a manager of its own here; waits for it so long. */
    static heap attach(const std::string &url, std::chrono::milliseconds wait = std::chrono::milliseconds::zero())
    {
        return or_throw(attach(std::nothrow, url.c_str(), wait));
    }
    static heap attach(std::nothrow_t, const char *url,
                       std::chrono::milliseconds wait = std::chrono::milliseconds::zero()) noexcept
    {
        return attach(std::nothrow, HSHM_BACKEND_POSIX_SHM_MMAP, url, waiting(wait));
    }
    /** To look at it only: what would change it throws HSHM_E_PERM, and its memory must not be written to. */
    static heap attach_read_only(const std::string &url,
                                 std::chrono::milliseconds wait = std::chrono::milliseconds::zero())
    {
        hshm_attach_options options = waiting(wait);
        options.read_only = true;
        return attach(HSHM_BACKEND_POSIX_SHM_MMAP, url, options);
    }
    static heap attach(hshm_backend_kind kind, const std::string &url, const hshm_attach_options &options)
    {
        return or_throw(attach(std::nothrow, kind, url.c_str(), options));
    }
    static heap attach(std::nothrow_t, hshm_backend_kind kind, const char *url,
                       const hshm_attach_options &options) noexcept
    {
        const manager own = manager::create(std::nothrow);
        if (own.is_default())
            return {};
        const backend to = backend::attach(std::nothrow, own, kind, url, &options);
        return to ? of(std::nothrow, to) : heap();
    }

    /** The heap of a backend that was attached to. */
    static heap of(const backend &on) { return or_throw(of(std::nothrow, on)); }
    static heap of(std::nothrow_t, const backend &on) noexcept
    {
        hshm_allocator *found = is_backend(on) ? hshm_backend_allocator(on.get()) : nullptr;
        return found == nullptr ? heap() : heap(found, on);
    }

    /** False also when its region was left by close() of another handle. */
    explicit operator bool() const noexcept { return handle_.get() != nullptr && !backend_.was_left(); }
    hshm_allocator *get() const noexcept { return handle_.get(); }
    /** Empty if the heap is borrowed. */
    const backend &region() const noexcept { return backend_; }
    hshm_allocator_id id() const noexcept { return hshm_allocator_id_of(handle_.get()); }
    hshm_allocator_kind kind() const noexcept { return hshm_allocator_kind_of(handle_.get()); }
    /** The region's first byte: what offsets count from. */
    unsigned char *base() const noexcept { return reinterpret_cast<const hshm_allocator_base *>(handle_.get())->base; }

    /** End the region now; see backend::close(). */
    void close()
    {
        handle_ = {};
        backend_.close();
    }

    /* ---- blocks ---- */

    /** At least `size` bytes, 16-byte aligned, to be freed by somebody. */
    void *allocate(std::size_t size) const { return or_no_memory(hshm_malloc(handle_.get(), size)); }
    void *allocate(std::nothrow_t, std::size_t size) const noexcept { return hshm_malloc(handle_.get(), size); }

    /** With a lifetime of its own, whatever the heap's is; hshm_malloc_lifetime(). */
    void *allocate(std::size_t size, hshm_lifetime lifetime) const
    {
        return or_no_memory(hshm_malloc_lifetime(handle_.get(), size, lifetime));
    }
    /** `count` elements of `size` bytes that are zero; hshm_calloc(). */
    void *allocate_zeroed(std::size_t count, std::size_t size) const
    {
        return or_no_memory(hshm_calloc(handle_.get(), count, size));
    }

    void *allocate_aligned(std::size_t alignment, std::size_t size) const
    {
        return or_no_memory(hshm_aligned_alloc(handle_.get(), alignment, size));
    }
    void *allocate_aligned(std::nothrow_t, std::size_t alignment, std::size_t size) const noexcept
    {
        return hshm_aligned_alloc(handle_.get(), alignment, size);
    }

    /** hshm_realloc(): bytes, not objects. */
    void *reallocate(void *addr, std::size_t size) const
    {
        return or_no_memory(hshm_realloc(handle_.get(), addr, size));
    }

    /** Free a block; null is fine. */
    void deallocate(void *addr) const { detail::check(hshm_free(handle_.get(), addr)); }
    hshm_status deallocate(std::nothrow_t, void *addr) const noexcept { return hshm_free(handle_.get(), addr); }

    std::size_t usable_size(const void *addr) const noexcept { return hshm_usable_size(handle_.get(), addr); }

    /** Bytes with an owner. */
    inline block make_block(std::size_t size, std::size_t alignment = detail::plain_alignment) const;

    /* ---- objects ---- */

    template <class T, class... Args> T *construct(Args &&...args) const
    {
        void *block = taken<T>(1);
        return make_one<std::remove_cv_t<T>>(block, block, std::forward<Args>(args)...);
    }
    /** `count` of them, each made of the same arguments. */
    template <class T, class... Args> T *construct_array(std::size_t count, const Args &...args) const
    {
        void *block = taken<T>(count);
        return make_many<std::remove_cv_t<T>>(block, block, count, args...);
    }
    /** Destroy an object that construct() made, and free it. */
    template <class T> void destroy(T *object) const
    {
        if (object != nullptr)
            std::destroy_at(object);
        deallocate(const_cast<std::remove_cv_t<T> *>(object));
    }
    template <class T> void destroy_array(T *first, std::size_t count) const
    {
        if (first != nullptr)
            std::destroy_n(first, count);
        deallocate(const_cast<std::remove_cv_t<T> *>(first));
    }

    template <class T, class... Args>
    std::enable_if_t<!std::is_array_v<T>, unique_ptr<T>> make_unique(Args &&...args) const;
    /** `count` of them, each made of the same arguments. */
    template <class T, class... Args>
    std::enable_if_t<std::is_array_v<T>, unique_ptr<T>> make_unique(std::size_t count, const Args &...args) const;

    /* ---- pointers that travel ---- */

    hshm_off to_offset(const void *addr) const noexcept { return hshm_to_off(handle_.get(), addr); }
    /** Unchecked; manager::resolve() checks. */
    template <class T = void> T *to_address(hshm_off off) const noexcept
    {
        return static_cast<T *>(hshm_to_addr(handle_.get(), off));
    }
    hshm_shm_ptr to_shared(const void *addr) const noexcept { return { id(), to_offset(addr) }; }

    /**
     * The custom header as a T: zero when the heap is new, so T should be good when all zero.  Others may look at it as soon as
     * the heap is there: let its last word, an atomic, say that it is filled in.
     * @throws hshm::error HSHM_E_INVAL if it is smaller than a T
     */
    template <class T> T &header() const
    {
        static_assert(may_be_shared<T>, "this type holds addresses of one process");
        static_assert(alignof(T) <= 64, "custom headers are aligned to 64 bytes");
        std::size_t size = 0;
        void *at = hshm_allocator_custom_header(handle_.get(), &size);
        if (at == nullptr || size < sizeof(T))
            refuse_header(size, sizeof(T));
        return *static_cast<T *>(at);
    }

    /* ---- named objects: for every process ---- */

    /** Make an object, and let the name hold it.  @throws hshm::error HSHM_E_EXISTS if the name holds a block already */
    template <class T, class... Args> T *construct_named(const char *name, Args &&...args) const
    {
        return name_or_undo(name, make_tagged<std::remove_cv_t<T>>(std::forward<Args>(args)...), 1);
    }
    /** `count` of them, each made of the same arguments. */
    template <class T, class... Args>
    T *construct_named_array(const char *name, std::size_t count, const Args &...args) const
    {
        using object = std::remove_cv_t<T>;
        unsigned char *block = taken_tagged<object>(count, ~detail::type_tag<object>());
        return name_or_undo(name, make_many<object>(block, block + detail::object_off<object>, count, args...), count);
    }

    /**
     * The object of that name, or null if there is none, or if the name holds something else (HSHM_E_NOTFOUND, _KIND as last
     * status).
     * @throws hshm::error if names cannot be looked up: HSHM_E_INVAL, _NOTSUP, _BUSY
     */
    template <class T> T *find(const char *name) const
    {
        T *found = find<T>(std::nothrow, name);
        if (found == nullptr)
            check_absent();
        return found;
    }
    template <class T> T *find(std::nothrow_t, const char *name) const noexcept
    {
        return tagged<std::remove_cv_t<T>>(name, detail::type_tag<std::remove_cv_t<T>>(), nullptr);
    }
    /** The same for an array, and how many there are. */
    template <class T> T *find_array(const char *name, std::size_t *ret_count) const
    {
        T *found = find_array<T>(std::nothrow, name, ret_count);
        if (found == nullptr)
            check_absent();
        return found;
    }
    template <class T> T *find_array(std::nothrow_t, const char *name, std::size_t *ret_count) const noexcept
    {
        return tagged<std::remove_cv_t<T>>(name, ~detail::type_tag<std::remove_cv_t<T>>(), ret_count);
    }

    /**
     * The object of that name, made if there is none.  Of processes that do so at once, one's object is it; the others
     * destroy theirs and get that.  So the arguments are used as they are, not moved from.
     * @throws hshm::error HSHM_E_KIND if the name holds something else, _EXISTS if a block that was freed, _BUSY as
     *         hshm_name_set()
     */
    template <class T, class... Args> T *find_or_construct(const char *name, Args &&...args) const
    {
        using object = std::remove_cv_t<T>;
        for (int tries = 1;; tries++) {
            object *found = find<object>(name);
            if (found != nullptr)
                return found;
            if (hshm_last_status() == HSHM_E_KIND)
                detail::throw_last();
            object *made = make_tagged<object>(args...);
            const hshm_status status = hshm_name_set(handle_.get(), name, block_of(made));
            if (status == HSHM_OK)
                return made;
            const detail::failed_call why(status, hshm_last_error());
            undo(made, 1);
            /* Another's, who was first?  Mostly it is there now; if it comes and goes, or was freed, that has an end. */
            if (status != HSHM_E_EXISTS || tries == 16)
                detail::throw_failure<detail::failed_call>(why.status(), why.what());
        }
    }

    /**
     * Forget the name, destroy its object, or array, and free it; nobody may use it any more.  Of several that do so at once,
     * one does it.  False: there is no such object (any more).
     */
    template <class T> bool destroy_named(const char *name) const
    {
        using object = std::remove_cv_t<T>;
        const std::uint64_t one = detail::type_tag<object>();
        std::size_t count = 0;
        object *first = tagged<object>(name, one, &count);
        if (first == nullptr)
            first = tagged<object>(name, ~one, &count);
        if (first == nullptr)
            return false;
        const hshm_status status = hshm_name_take(handle_.get(), name, block_of(first));
        if (status == HSHM_E_NOTFOUND)
            return false;
        detail::check(status);
        /* Ours now; and it may be another's that came to the same place meanwhile. */
        const detail::object_tag tag = detail::read_tag(first);
        if (tag.type != one && tag.type != ~one) {
            detail::check(hshm_name_set(handle_.get(), name, block_of(first)));
            return false;
        }
        count = static_cast<std::size_t>(tag.count);
        undo(first, count);
        return true;
    }

    /* ---- named blocks, and slots: hshm/name.h, hshm/slot.h ---- */

    /** Let a name hold a block.  @throws hshm::error HSHM_E_EXISTS if it holds one */
    void set_name(const char *name, void *block) const { detail::check(hshm_name_set(handle_.get(), name, block)); }
    /** The same, and the block has no other owner any more.  If that fails, the block is still `own`'s. */
    inline void give(block &own, const char *name) const;
    /** Null if there is no such name, or if it holds no block. */
    void *find_block(const char *name) const
    {
        void *found = nullptr;
        if (hshm_name_get(handle_.get(), name, &found) != HSHM_OK)
            check_absent();
        return found;
    }
    /** False if there is no such name.  What it held stays. */
    bool remove_name(const char *name) const
    {
        const hshm_status status = hshm_name_remove(handle_.get(), name);
        if (status != HSHM_E_NOTFOUND)
            detail::check(status);
        return status == HSHM_OK;
    }
    /** The name's slot, for allocate_to(): a block that is taken and named as one, whatever kills the process. */
    hshm_slot &name_slot(const char *name) const
    {
        hshm_slot *slot = nullptr;
        detail::check(hshm_name_slot(handle_.get(), name, &slot));
        return *slot;
    }
    void allocate_to(hshm_slot &slot, std::size_t size) const
    {
        detail::check(hshm_allocate_to(handle_.get(), size, &slot));
    }
    void free_from(hshm_slot &slot) const { detail::check(hshm_free_from(handle_.get(), &slot)); }
    void move(hshm_slot &from, hshm_slot &to) const { detail::check(hshm_move(handle_.get(), &from, &to)); }
    /** The block that a slot holds; null if it is empty, or just being changed. */
    template <class T = void> T *in_slot(const hshm_slot &slot) const noexcept
    {
        return to_address<T>(hshm_slot_load(&slot));
    }

    /* ---- a Stack: all above a mark at once ---- */

    hshm_stack_height mark() const
    {
        hshm_stack_height height = 0;
        detail::check(hshm_stack_mark(handle_.get(), &height));
        return height;
    }
    /** Frees every block above it; no object is destroyed. */
    void rewind(hshm_stack_height height) const { detail::check(hshm_stack_rewind(handle_.get(), height)); }

    /* ---- looking at it ---- */

    hshm_stats stats() const
    {
        hshm_stats stats = {};
        stats.struct_size = sizeof stats;
        detail::check(hshm_stats_get(handle_.get(), &stats));
        return stats;
    }
    /** @throws hshm::error HSHM_E_CORRUPT if it is damaged */
    hshm_check_report check(unsigned flags = 0) const
    {
        hshm_check_report report = {};
        report.struct_size = sizeof report;
        detail::check(hshm_check(handle_.get(), flags, &report));
        return report;
    }
    hshm_recover_report recover() const
    {
        hshm_recover_report report = {};
        report.struct_size = sizeof report;
        detail::check(hshm_recover(handle_.get(), &report));
        return report;
    }
    /**
     * Bytes that were given back to the system.
     * @throws hshm::error HSHM_E_NOTSUP if the region keeps what it reserved, as named ones do unless they were created with
     *         options.backend.commit = HSHM_COMMIT_LAZY
     */
    std::uint64_t trim(std::uint64_t keep = 0) const
    {
        std::uint64_t bytes = 0;
        detail::check(hshm_trim(handle_.get(), keep, &bytes));
        return bytes;
    }
    /** each(const hshm_block &): returns nothing, or a bool that says whether to go on.  It may throw. */
    template <class F> void for_each_block(F &&each) const
    {
        detail::visit_state<F> state{ each };
        const hshm_visit_fn one = [](const hshm_block *block, void *arg) {
            return detail::visit_one<F, const hshm_block &>(*static_cast<detail::visit_state<F> *>(arg), *block);
        };
        finish(hshm_visit_blocks(handle_.get(), one, &state), state);
    }
    /** each(const char *name, void *block or null): likewise. */
    template <class F> void for_each_name(F &&each) const
    {
        detail::visit_state<F> state{ each };
        const hshm_name_visit_fn one = [](const char *name, void *block, void *arg) {
            return detail::visit_one<F, const char *, void *>(*static_cast<detail::visit_state<F> *>(arg), name, block);
        };
        finish(hshm_name_visit(handle_.get(), one, &state), state);
    }

    friend bool operator==(const heap &a, const heap &b) noexcept { return a.get() == b.get(); }
    friend bool operator!=(const heap &a, const heap &b) noexcept { return a.get() != b.get(); }

  private:
    friend class block;
    template <class T> friend struct detail::deleter;

    static void *or_no_memory(void *taken)
    {
        if (__builtin_expect(taken == nullptr, 0))
            detail::throw_no_memory();
        return taken;
    }

    static heap or_throw(heap made)
    {
        if (!made)
            detail::throw_last();
        return made;
    }

    template <class State> static void finish(hshm_status status, [[maybe_unused]] State &state)
    {
#if defined(__cpp_exceptions)
        if (state.thrown)
            std::rethrow_exception(state.thrown);
#endif
        detail::check(status);
    }

    static hshm_attach_options waiting(std::chrono::milliseconds wait) noexcept
    {
        hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
        options.timeout_ms = wait.count() > 0 ? static_cast<std::uint64_t>(wait.count()) : 0;
        return options;
    }

    [[noreturn]] void refuse_header(std::size_t has, std::size_t wanted) const
    {
        const std::string which = std::to_string(id().major) + "." + std::to_string(id().minor);
        detail::throw_own(HSHM_E_INVAL,
                          ("the custom header of heap " + which + " has " + std::to_string(has) +
                           " bytes, and the type that it is to be has " + std::to_string(wanted) +
                           ": create the heap with a larger one, or ask for the type that it was made for")
                              .c_str());
    }

    heap(hshm_allocator *made, const backend &on) noexcept : handle_(made), backend_(on) {}

    static bool is_backend(const backend &on) noexcept
    {
        if (!on)
            (void)hshm_set_last_error(HSHM_E_INVAL, "there is no backend, or it was left: it cannot have a heap");
        return static_cast<bool>(on);
    }

    template <class T> void *taken(std::size_t count, std::size_t before = 0) const
    {
        static_assert(may_be_shared<T>, "this type holds addresses of one process: see hshm::may_be_shared");
        std::size_t bytes = 0;
        if (__builtin_mul_overflow(count, sizeof(T), &bytes) || __builtin_add_overflow(bytes, before, &bytes))
            bytes = SIZE_MAX; /* which no heap has room for */
        void *block = detail::take(handle_.get(), bytes, alignof(T));
        if (__builtin_expect(block == nullptr, 0))
            detail::throw_no_memory();
        return block;
    }

    /* An object in room that was taken; it is freed again if the constructor throws. */
    template <class T, class... Args> T *make_one([[maybe_unused]] void *block, void *at, Args &&...args) const
    {
#if defined(__cpp_exceptions)
        try {
            return detail::make_at<T>(at, std::forward<Args>(args)...);
        } catch (...) {
            (void)hshm_free(handle_.get(), block);
            throw;
        }
#else
        return detail::make_at<T>(at, std::forward<Args>(args)...);
#endif
    }
    template <class T, class... Args>
    T *make_many([[maybe_unused]] void *block, void *at, std::size_t count, const Args &...args) const
    {
        T *first = static_cast<T *>(at);
        std::size_t made = 0;
#if defined(__cpp_exceptions)
        try {
            for (; made < count; made++)
                detail::make_at<T>(first + made, args...);
        } catch (...) {
            std::destroy_n(first, made);
            (void)hshm_free(handle_.get(), block);
            throw;
        }
#else
        for (; made < count; made++)
            detail::make_at<T>(first + made, args...);
#endif
        return first;
    }

    /* Room for named objects, and in front of it what they are. */
    template <class T> unsigned char *taken_tagged(std::size_t count, std::uint64_t type) const
    {
        const std::size_t before = detail::object_off<T>;
        unsigned char *block = static_cast<unsigned char *>(taken<T>(count, before));
        detail::write_tag(block + before, { type, count });
        return block;
    }
    template <class T, class... Args> T *make_tagged(Args &&...args) const
    {
        unsigned char *block = taken_tagged<T>(1, detail::type_tag<T>());
        return make_one<T>(block, block + detail::object_off<T>, std::forward<Args>(args)...);
    }

    template <class T> static void *block_of(T *object) noexcept
    {
        return reinterpret_cast<unsigned char *>(object) - detail::object_off<T>;
    }

    template <class T> void undo(T *first, std::size_t count) const noexcept
    {
        std::destroy_n(first, count);
        (void)hshm_free(handle_.get(), block_of(first));
    }

    template <class T> T *name_or_undo(const char *name, T *first, std::size_t count) const
    {
        const hshm_status status = hshm_name_set(handle_.get(), name, block_of(first));
        if (status == HSHM_OK)
            return first;
        const detail::failed_call why(status, hshm_last_error());
        undo(first, count);
        detail::throw_failure<detail::failed_call>(why.status(), why.what());
    }

    /* A look-up found nothing: because there is nothing of that kind, or because it could not look? */
    static void check_absent()
    {
        if (hshm_last_status() != HSHM_E_NOTFOUND && hshm_last_status() != HSHM_E_KIND)
            detail::throw_last();
    }

    /*
     * What a name holds, if that is of this type.  Of a block that a program in C named, the tag is whatever it wrote there: a
     * number that is no type's; and a count beyond the block's end is nobody's.
     */
    template <class T> T *tagged(const char *name, std::uint64_t type, std::size_t *ret_count) const noexcept
    {
        const std::size_t before = detail::object_off<T>;
        void *block = nullptr;
        if (hshm_name_get(handle_.get(), name, &block) != HSHM_OK)
            return nullptr;
        const std::size_t size = hshm_usable_size(handle_.get(), block);
        unsigned char *first = static_cast<unsigned char *>(block) + before;
        const detail::object_tag tag = size >= before ? detail::read_tag(first) : detail::object_tag{};
        if (size < before || tag.type != type || tag.count > (size - before) / sizeof(T)) {
            (void)hshm_set_last_error(HSHM_E_KIND,
                                      "the name holds something else than what was asked for: use the type that "
                                      "it was made with, and find_array() for arrays");
            return nullptr;
        }
        if (ret_count != nullptr)
            *ret_count = static_cast<std::size_t>(tag.count);
        return reinterpret_cast<T *>(first);
    }

    detail::movable<hshm_allocator> handle_;
    backend backend_;
};

class block
{
  public:
    block() noexcept = default;
    block(block &&other) noexcept : heap_(std::move(other.heap_)), data_(std::exchange(other.data_, nullptr)) {}
    block &operator=(block &&other) noexcept
    {
        if (this != &other) {
            reset();
            heap_ = std::move(other.heap_);
            data_ = std::exchange(other.data_, nullptr);
        }
        return *this;
    }
    block(const block &) = delete;
    block &operator=(const block &) = delete;
    ~block() { reset(); }

    explicit operator bool() const noexcept { return data_ != nullptr; }
    void *data() const noexcept { return data_; }
    /** As many bytes as may be used: at least what was asked for. */
    std::size_t size() const noexcept { return data_ == nullptr || !heap_ ? 0 : heap_.usable_size(data_); }
    hshm_off offset() const noexcept { return heap_ ? heap_.to_offset(data_) : 0; }

    /** The block goes on without an owner. */
    void *release() noexcept
    {
        heap_ = heap();
        return std::exchange(data_, nullptr);
    }
    void reset() noexcept
    {
        if (data_ != nullptr && heap_)
            (void)heap_.deallocate(std::nothrow, data_);
        data_ = nullptr;
        heap_ = heap();
    }

  private:
    friend class heap;
    block(const heap &in, void *data) noexcept : heap_(in), data_(data) {}

    heap heap_;
    void *data_ = nullptr;
};

inline void
heap::give(block &own, const char *name) const
{
    set_name(name, own.data());
    (void)own.release();
}

inline block
heap::make_block(std::size_t size, std::size_t alignment) const
{
    void *taken = detail::take(handle_.get(), size, alignment);
    if (taken == nullptr)
        detail::throw_no_memory();
    return block(*this, taken);
}

namespace detail
{

template <class T> struct deleter {
    heap in;

    deleter() noexcept = default;
    explicit deleter(const heap &of) noexcept : in(of) {}
    /* As std::default_delete: to a const object, or to a base with a virtual destructor. */
    template <class U, std::enable_if_t<std::is_convertible_v<U *, T *> && !std::is_array_v<U>, int> = 0>
    deleter(const deleter<U> &other) noexcept : in(other.in)
    {
    }

    void operator()(T *object) const noexcept
    {
        if (!in)
            return;
        std::destroy_at(object);
        (void)in.deallocate(std::nothrow, const_cast<std::remove_cv_t<T> *>(object));
    }
};

template <class T> struct deleter<T[]> {
    heap in;
    std::size_t count = 0;

    void operator()(T *first) const noexcept
    {
        if (!in)
            return;
        std::destroy_n(first, count);
        (void)in.deallocate(std::nothrow, const_cast<std::remove_cv_t<T> *>(first));
    }
};

} // namespace detail

template <class T, class... Args>
std::enable_if_t<!std::is_array_v<T>, unique_ptr<T>>
heap::make_unique(Args &&...args) const
{
    return unique_ptr<T>(construct<T>(std::forward<Args>(args)...), detail::deleter<T>{ *this });
}

template <class T, class... Args>
std::enable_if_t<std::is_array_v<T>, unique_ptr<T>>
heap::make_unique(std::size_t count, const Args &...args) const
{
    return unique_ptr<T>(construct_array<std::remove_extent_t<T>>(count, args...), detail::deleter<T>{ *this, count });
}

} // namespace hshm

#endif
