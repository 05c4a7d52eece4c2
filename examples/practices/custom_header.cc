/*
 * custom_header.cc - a program's own words at a fixed place in the heap: who made it, in which version, and what happened since.
 *
 * Advice: put a version and the program's own facts into the header, fill it in as soon as the heap is made, and store the word
 * that says "filled in" last (release), for others may attach before.  What several processes change is atomic.  Who attaches
 * waits for that word (acquire), then looks at the version before anything else.
 */
#include "practice.hpp"

#include <hshm/hshm.hpp>

#include <chrono>
#include <cstring>
#include <list>

using practice::expect;
using namespace std::chrono_literals;

namespace
{

constexpr std::uint32_t is_ready = 0x52454459;
constexpr std::uint32_t this_version = 2;
constexpr int workers = 3;
constexpr int messages_each = 10000;

/* In the heap, and zero when new.  Fixed widths, no pointers: programs of other compilers read it too. */
struct header {
    std::atomic<std::uint32_t>
        ready; /* is_ready, stored last; all that follows up to the counters never changes then */
    std::uint32_t version;
    char application[24];
    std::atomic<std::uint64_t> messages;
    std::atomic<std::uint64_t> bytes;
    std::atomic<std::uint64_t> longest;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "a lock would be private to its process");

/* A later program's: it grew. */
struct header_of_version_3 : header {
    std::atomic<std::uint64_t> errors;
};

void
fill_in(header &h)
{
    h.version = this_version;
    std::strncpy(h.application, "message counter", sizeof h.application - 1);
    h.ready.store(is_ready, std::memory_order_release); /* pairs with the acquire in validated() */
}

/* The header of a heap that another process made; it must be filled in soon, and of a version that this program knows. */
header &
validated(const hshm::heap &heap, std::uint32_t version)
{
    auto &h = heap.header<header>(); /* throws if there is not even room for one */
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    while (h.ready.load(std::memory_order_acquire) != is_ready) {
        expect(std::chrono::steady_clock::now() < deadline, "the heap's maker never filled in its header");
        usleep(1000);
    }
    if (h.version != version)
        throw std::runtime_error("the heap is of version " + std::to_string(h.version) + ", this program of version " +
                                 std::to_string(version));
    return h;
}

void
count(header &h, std::uint64_t size)
{
    h.messages.fetch_add(1, std::memory_order_relaxed);
    h.bytes.fetch_add(size, std::memory_order_relaxed);
    std::uint64_t longest = h.longest.load(std::memory_order_relaxed);
    /* A failed exchange reads the longest anew; somebody may have raised it beyond ours meanwhile. */
    while (size > longest && !h.longest.compare_exchange_weak(longest, size, std::memory_order_relaxed))
        continue;
}

void
worker(const std::string &name, int number)
{
    const hshm::heap heap = hshm::heap::attach(name, 10s); /* it may be there before its maker has made it */
    header &h = validated(heap, this_version);
    for (int i = 1; i <= messages_each; i++)
        count(h, static_cast<std::uint64_t>(i + number));
}

/* Programs of another version are told so, instead of reading bytes as what they are not. */
void
others_are_refused(const hshm::heap &heap)
{
    bool refused = false;
    try {
        (void)validated(heap, 1);
    } catch (const std::runtime_error &why) {
        std::printf("a program of version 1: %s\n", why.what());
        refused = true;
    }
    expect(refused, "a program of version 1 was let in");
    try {
        (void)heap.header<header_of_version_3>();
        expect(false, "a larger header was found than was made");
    } catch (const hshm::error &why) {
        std::printf("a program of version 3: %s\n", why.what());
    }
}

} // namespace

int
main()
{
    const std::string name = practice::heap_name("custom_header");
    return practice::run([&] {
        std::list<practice::process> processes; /* started first: they have nothing of the heap but its name */
        for (int i = 0; i < workers; i++)
            processes.emplace_back([&, i] { worker(name, i); });

        hshm::heap_options options;
        options.custom_header = sizeof(header);
        const hshm::heap heap = hshm::heap::create(name, 1 << 20, options);
        auto &h = heap.header<header>();
        fill_in(h);
        for (practice::process &one : processes)
            one.must_end_well();

        std::printf("'%s', version %u: %llu messages of %d processes, the longest of %llu bytes\n", h.application,
                    h.version, static_cast<unsigned long long>(h.messages), workers,
                    static_cast<unsigned long long>(h.longest));
        expect(h.messages == workers * messages_each, "messages were lost");
        expect(h.longest == messages_each + workers - 1, "the longest is not");
        others_are_refused(heap);
    });
}
