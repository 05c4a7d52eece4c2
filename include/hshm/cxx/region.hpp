/*
 * region.hpp - memory with an owner: managers and backends that let go of what they hold.
 *
 * Ownership
 *   manager, backend and heap are handles that share what they stand for: copies are cheap, and the last one to go ends it.
 *   A heap holds its backend, a backend its manager, a block or unique_ptr its heap.  So the order in which they end does not
 *   matter, at the end of a program neither: a static unique_ptr keeps the heap that it needs.
 *   Ending a backend leaves the memory (mapping and descriptor), and removes the name if at_end says so.
 *
 * Processes
 *   A forked child shares its parent's heaps, and removes no name that its parent made.
 *   exec, _exit and SIGKILL run no destructors: the kernel takes the memory back, a name stays (at_end::remove or not)
 *   until the next create() with options.backend.replace = HSHM_REPLACE_DEAD, or hshm_backend_remove().
 *
 * Threads: as the C calls; one handle object must not be changed by one thread while another uses it.  None of this is for
 * signal handlers.
 */
#ifndef HSHM_CXX_REGION_HPP
#define HSHM_CXX_REGION_HPP

#include <hshm/cxx/error.hpp>
#include <hshm/hshm.h>

#include <atomic>
#include <cstddef>
#include <new>
#include <utility>

namespace hshm
{

/** What becomes of a region's name when its last handle in the process that created it ends. */
enum class at_end {
    automatic, /**< names in /dev/shm go, files stay          */
    remove,    /**< it goes; who is attached goes on          */
    keep       /**< it stays, for hshm_backend_attach() later */
};

namespace detail
{

/* Counts its handles.  (std::shared_ptr cannot be made without exceptions.) */
class counted
{
  public:
    void hold() noexcept { handles_.fetch_add(1, std::memory_order_relaxed); }
    /* Pairs with itself: who ends the object comes after all that others did with it. */
    bool let_go() noexcept { return handles_.fetch_sub(1, std::memory_order_acq_rel) == 1; }

  private:
    std::atomic<unsigned> handles_{ 1 };
};

template <class T> class handle
{
  public:
    handle() noexcept = default;
    /* Takes over the count of 1 that a new object has. */
    explicit handle(T *first) noexcept : to_(first) {}
    handle(const handle &other) noexcept : to_(other.to_)
    {
        if (to_ != nullptr)
            to_->hold();
    }
    handle(handle &&other) noexcept : to_(std::exchange(other.to_, nullptr)) {}
    handle &operator=(handle other) noexcept
    {
        std::swap(to_, other.to_);
        return *this;
    }
    ~handle()
    {
        if (to_ != nullptr && to_->let_go())
            delete to_;
    }
    T *get() const noexcept { return to_; }
    T *operator->() const noexcept { return to_; }
    explicit operator bool() const noexcept { return to_ != nullptr; }

  private:
    T *to_ = nullptr;
};

/* A plain pointer that is null after it was moved from. */
template <class T> class movable
{
  public:
    movable() noexcept = default;
    explicit movable(T *to) noexcept : to_(to) {}
    movable(const movable &) noexcept = default;
    movable(movable &&other) noexcept : to_(std::exchange(other.to_, nullptr)) {}
    movable &operator=(const movable &) noexcept = default;
    movable &operator=(movable &&other) noexcept
    {
        T *to = std::exchange(other.to_, nullptr);
        to_ = to; /* of itself, too */
        return *this;
    }
    ~movable() = default;

    T *get() const noexcept { return to_; }

  private:
    T *to_ = nullptr;
};

/* Of this process, not of a heap. */
inline void
no_memory_for(const char *what) noexcept
{
    (void)hshm_set_last_error(HSHM_E_NOSPC, what);
}

struct owned_manager : counted {
    hshm_manager *manager = nullptr;

    owned_manager() = default;
    owned_manager(const owned_manager &) = delete;
    owned_manager &operator=(const owned_manager &) = delete;
    ~owned_manager()
    {
        if (manager != nullptr) /* of NULL, it would empty the default one */
            hshm_manager_destroy(manager);
    }
};

struct owned_backend : counted {
    handle<owned_manager> manager; /* none: the default one */
    hshm_backend_id id = 0;
    hshm_backend_kind kind = HSHM_BACKEND_POSIX_SHM_MMAP;
    std::atomic<at_end> end{ at_end::automatic };
    std::atomic<bool> open{ false };

    owned_backend() = default;
    owned_backend(const owned_backend &) = delete;
    owned_backend &operator=(const owned_backend &) = delete;
    ~owned_backend() { (void)leave(); }

    hshm_manager *in() const noexcept { return manager ? manager->manager : nullptr; }

    hshm_status leave() noexcept
    {
        if (!open.exchange(false))
            return HSHM_OK;
        const at_end what = end.load();
        const bool keeps = what == at_end::keep || (what == at_end::automatic && kind == HSHM_BACKEND_POSIX_MMAP);
        return keeps ? hshm_backend_detach(in(), id) : hshm_backend_destroy(in(), id);
    }
};

} // namespace detail

/** A list of backends and heaps: the process's default one, or one of its own (see hshm/manager.h). */
class manager
{
  public:
    /** The default manager, which never ends. */
    manager() noexcept = default;

    /** A new, empty one.  Ids in it are free of those in others. */
    static manager create()
    {
        manager made = create(std::nothrow);
        if (!made.own_)
            detail::throw_no_memory();
        return made;
    }
    /** Without memory for it: the default one, and HSHM_E_NOSPC as last status; see is_default(). */
    static manager create(std::nothrow_t) noexcept
    {
        hshm_manager *made = nullptr;
        manager result;
        if (hshm_manager_create(&made) != HSHM_OK)
            return result;
        result.own_ = detail::handle<detail::owned_manager>(new (std::nothrow) detail::owned_manager);
        if (result.own_)
            result.own_->manager = made;
        else {
            hshm_manager_destroy(made);
            detail::no_memory_for("no memory for a manager");
        }
        return result;
    }

    bool is_default() const noexcept { return !own_; }
    hshm_manager *get() const noexcept { return own_ ? own_->manager : nullptr; }

    /** The address, in this process, of a pointer that came from another one.  It is not known to be a T. */
    template <class T = void> T *resolve(hshm_shm_ptr pointer) const
    {
        void *addr = nullptr;
        detail::check(hshm_resolve(get(), pointer, &addr));
        return static_cast<T *>(addr);
    }
    template <class T = void> T *resolve(std::nothrow_t, hshm_shm_ptr pointer) const noexcept
    {
        void *addr = nullptr;
        return hshm_resolve(get(), pointer, &addr) == HSHM_OK ? static_cast<T *>(addr) : nullptr;
    }
    /** The form that travels. */
    hshm_shm_ptr identify(const void *addr) const
    {
        hshm_shm_ptr pointer = {};
        detail::check(hshm_identify(get(), addr, &pointer));
        return pointer;
    }

  private:
    friend class backend;
    detail::handle<detail::owned_manager> own_;
};

/** A region of bytes, registered in a manager (see hshm/backend.h). */
class backend
{
  public:
    /** None. */
    backend() noexcept = default;

    /** hshm_backend_create().  `url` may be NULL for kinds without names. */
    static backend create(const manager &in, hshm_backend_id id, hshm_backend_kind kind, std::size_t size,
                          const char *url, const hshm_backend_options *options = nullptr)
    {
        backend made = create(std::nothrow, in, id, kind, size, url, options);
        if (!made)
            detail::throw_last();
        return made;
    }
    static backend create(std::nothrow_t, const manager &in, hshm_backend_id id, hshm_backend_kind kind,
                          std::size_t size, const char *url, const hshm_backend_options *options = nullptr) noexcept
    {
        return open(in, [&](detail::owned_backend &own, hshm_backend **ret) {
            own.id = id;
            own.kind = kind;
            return hshm_backend_create(in.get(), id, kind, size, url, options, ret);
        });
    }

    /** hshm_backend_attach(). */
    static backend attach(const manager &in, hshm_backend_kind kind, const char *url,
                          const hshm_attach_options *options = nullptr)
    {
        backend attached = attach(std::nothrow, in, kind, url, options);
        if (!attached)
            detail::throw_last();
        return attached;
    }
    static backend attach(std::nothrow_t, const manager &in, hshm_backend_kind kind, const char *url,
                          const hshm_attach_options *options = nullptr) noexcept
    {
        return open(in, [&](detail::owned_backend &own, hshm_backend **ret) {
            const hshm_status status = hshm_backend_attach(in.get(), kind, url, options, ret);
            hshm_backend_info_data info = {};
            info.struct_size = sizeof info;
            if (status == HSHM_OK && hshm_backend_info(*ret, &info) == HSHM_OK)
                own.id = info.id;
            own.kind = kind;
            return status;
        });
    }

    explicit operator bool() const noexcept { return own_ && own_->open.load(); }
    /** Was it left by close() of another handle? */
    bool was_left() const noexcept { return own_ && !own_->open.load(); }
    hshm_backend *get() const noexcept { return handle_.get(); }
    hshm_backend_id id() const noexcept { return own_ ? own_->id : 0; }
    manager in() const noexcept
    {
        manager result;
        if (own_)
            result.own_ = own_->manager;
        return result;
    }

    /** What becomes of the name; for all handles of this region in this process. */
    void when_it_ends(at_end what) noexcept
    {
        if (own_)
            own_->end = what;
    }

    hshm_backend_info_data info() const
    {
        hshm_backend_info_data info = {};
        info.struct_size = sizeof info;
        detail::check(hshm_backend_info(handle_.get(), &info));
        return info;
    }
    void sync() const { detail::check(hshm_backend_sync(handle_.get())); }

    /**
     * End it now, for all its handles in this process, and hear whether the name could be removed.  Blocks and objects that
     * are still held are let go of without being freed.  No other thread may be using it.
     */
    void close()
    {
        handle_ = {};
        if (own_)
            detail::check(own_->leave());
    }

  private:
    template <class Open> static backend open(const manager &in, Open make) noexcept
    {
        backend result;
        hshm_backend *made = nullptr;
        result.own_ = detail::handle<detail::owned_backend>(new (std::nothrow) detail::owned_backend);
        if (!result.own_) {
            detail::no_memory_for("no memory for a backend");
            return result;
        }
        result.own_->manager = in.own_;
        result.own_->open = make(*result.own_.get(), &made) == HSHM_OK;
        result.handle_ = detail::movable<hshm_backend>(made);
        return result;
    }

    detail::movable<hshm_backend> handle_;
    detail::handle<detail::owned_backend> own_;
};

} // namespace hshm

#endif
