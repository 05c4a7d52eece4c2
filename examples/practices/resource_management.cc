/*
 * resource_management.cc - RAII: everything has an owner, so that early returns and exceptions leave nothing behind.
 *
 * Advice: let owners hold what must be given back: hshm::heap its region and name, hshm::block bytes, hshm::unique_ptr objects.
 * They end in the right order by themselves (objects, heap, backend), and release() hands over what is to stay.  Check what is
 * asked for with std::nothrow; what throws has been checked.
 */
#include "practice.hpp"

#include <hshm/hshm.hpp>

#include <array>
#include <cstring>
#include <optional>

using practice::expect;

namespace
{

struct sample {
    std::array<double, 30> values{};
    explicit sample(double first)
    {
        if (first < 0)
            throw std::invalid_argument("a sample cannot be negative");
        values[0] = first;
    }
};

bool
is_there(const std::string &name)
{
    return static_cast<bool>(hshm::heap::attach(std::nothrow, name.c_str()));
}

/* Returns in the middle, by three ways, and says nowhere what is to be given back. */
std::optional<double>
measure(const hshm::heap &heap, double first)
{
    const hshm::block scratch = heap.make_block(10000);
    if (first > 1000)
        return std::nullopt;
    const auto squares = heap.make_unique<double[]>(100);
    const auto one = heap.make_unique<sample>(first); /* throws if it is negative */
    squares[0] = one->values[0] * one->values[0];
    std::memcpy(scratch.data(), &squares[0], sizeof squares[0]);
    return squares[0];
}

void
blocks_and_objects(const hshm::heap &heap)
{
    const std::uint64_t before = heap.stats().live_blocks;
    expect(measure(heap, 1.5) == 2.25, "the measurement is wrong");
    expect(!measure(heap, 5000).has_value(), "what is too large was measured");
    bool thrown = false;
    try {
        (void)measure(heap, -1);
    } catch (const std::invalid_argument &) {
        thrown = true;
    }
    expect(thrown && heap.stats().live_blocks == before, "a way out of a function left a block behind");
    std::printf("blocks and objects: three ways out of a function, %llu blocks left by them\n",
                static_cast<unsigned long long>(heap.stats().live_blocks - before));
}

/* What fails half-way takes back what it had done. */
void
unfinished(const hshm::heap &heap, const std::string &name)
{
    hshm::heap_options options;
    options.custom_header = std::size_t{ 1 } << 40;
    const hshm::heap none = hshm::heap::create(std::nothrow, (name + ".half").c_str(), 1 << 20, options);
    expect(!none && hshm_last_status() == HSHM_E_INVAL, "a header larger than its region was accepted");
    expect(!is_there(name + ".half"), "a heap that could not be made left its name");

    const std::uint64_t before = heap.stats().live_blocks;
    try {
        (void)heap.construct_named<sample>("sample", -1.0);
    } catch (const std::invalid_argument &) {
        expect(heap.find<sample>("sample") == nullptr, "a name holds an object that could not be made");
    }
    expect(heap.stats().live_blocks == before, "an object that could not be made left its block");
    std::printf("unfinished things:  neither a name nor a block stays of what failed half-way\n");
}

/* What shall outlive its maker is released by its owner, and found by its name in another process. */
void
handed_over(const hshm::heap &heap, const std::string &name)
{
    hshm::block bytes = heap.make_block(100);
    practice::check(hshm_name_set(heap.get(), "bytes", bytes.data()) == HSHM_OK);
    (void)bytes.release(); /* the name has it now */

    practice::process other([&] {
        const hshm::heap attached = hshm::heap::attach(name);
        void *found = nullptr;
        practice::check(hshm_name_get(attached.get(), "bytes", &found) == HSHM_OK);
        practice::check(hshm_name_remove(attached.get(), "bytes") == HSHM_OK);
        attached.deallocate(found);
    }); /* its heap ends here; it attached only, so the name stays */
    other.must_end_well();
    expect(is_there(name), "a process that only attached removed the name");
    std::printf("handed over:        a block went to another process, which freed it; the heap is still there\n");
}

/* Owners in any order: whatever needs the heap keeps it. */
void
last_one_out(const std::string &name)
{
    hshm::unique_ptr<sample> kept;
    {
        const hshm::heap heap = hshm::heap::create(name, 1 << 20);
        kept = heap.make_unique<sample>(2.0);
    }
    expect(is_there(name) && kept->values[0] == 2.0, "the heap ended before an object in it");
    kept.reset();
    kept = {};
    std::printf("last one out:       an object kept its heap alive until it was gone itself\n");
}

} // namespace

int
main()
{
    const std::string name = practice::heap_name("resource_management");
    return practice::run([&] {
        try {
            const hshm::heap heap = hshm::heap::create(name, 16 << 20);
            blocks_and_objects(heap);
            unfinished(heap, name);
            handed_over(heap, name);
            (void)heap.allocate(std::size_t{ 1 } << 40); /* unchecked, for it throws what a std::vector would */
        } catch (const std::bad_alloc &full) {
            std::printf("a full heap:        %s\n", full.what());
        }
        expect(!is_there(name), "an exception left the heap's name behind");
        last_one_out(name);
        expect(!is_there(name), "the last owner left the heap's name behind");
    });
}
