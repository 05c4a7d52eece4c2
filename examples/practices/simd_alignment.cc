/*
 * simd_alignment.cc - blocks aligned for vector instructions, in every process that maps them.
 *
 * Advice: every block is 16-byte aligned, which is enough for SSE.  Ask for 64 (a cache line, a register of AVX-512) where loops
 * are to run on whole vectors, or where two threads shall not write to one line; and round sizes up, so that the last vector is
 * whole.  Say it to the compiler (__builtin_assume_aligned), and do not reallocate such a block: one that moved is 16-byte
 * aligned only.
 */
#include "practice.hpp"

#include <hshm/hshm.hpp>

#include <cmath>

using practice::expect;
using namespace std::chrono_literals;

namespace
{

constexpr std::size_t alignment = 64;
constexpr std::size_t lanes = alignment / sizeof(float);
constexpr std::size_t count = 100003; /* no multiple of anything */
constexpr std::size_t padded = (count + lanes - 1) / lanes * lanes;

/* One cache line at a time.  The compiler makes of it what the machine has: four registers of SSE, two of AVX, ... */
using line = float __attribute__((vector_size(alignment), may_alias));

/* In the custom header: pointers that are good in every process. */
struct vectors {
    hshm::offset_ptr<float> x;
    hshm::offset_ptr<float> y;
};

bool
is_aligned(const void *addr, std::size_t to)
{
    return reinterpret_cast<std::uintptr_t>(addr) % to == 0;
}

/* y += a * x, on whole lines: aligned loads and stores, and no loop over a rest. */
void
axpy(float a, const float *x, float *y)
{
    const auto *from = reinterpret_cast<const line *>(x);
    auto *to = reinterpret_cast<line *>(y);
    for (std::size_t i = 0; i < padded / lanes; i++)
        to[i] += a * from[i];
}

/* The same for plain loops: told of the alignment, the compiler does it by itself. */
float
sum(const float *values)
{
    const float *v = static_cast<const float *>(__builtin_assume_aligned(values, alignment));
    float partial[lanes] = {};
    for (std::size_t i = 0; i < padded; i += lanes) {
        for (std::size_t lane = 0; lane < lanes; lane++)
            partial[lane] += v[i + lane];
    }
    float all = 0;
    for (const float one : partial)
        all += one;
    return all;
}

float *
make_vector(const hshm::heap &heap, float first, float step)
{
    auto *values = static_cast<float *>(heap.allocate_aligned(alignment, padded * sizeof(float)));
    for (std::size_t i = 0; i < padded; i++)
        values[i] = i < count ? first + step * static_cast<float>(i % 16) : 0; /* the padding adds nothing */
    return values;
}

/* Alignments from a vector's to a page's, at this process's address and at another's. */
void
look_at_alignments(const hshm::heap &heap, const hshm::heap &elsewhere)
{
    expect(heap.base() != elsewhere.base(), "the same region was to be mapped at two addresses");
    for (std::size_t to = 16; to <= 4096; to *= 2) {
        void *block = heap.allocate_aligned(to, 3 * to + 1);
        expect(is_aligned(block, to), "a block is not aligned as was asked");
        expect(is_aligned(elsewhere.to_address(heap.to_offset(block)), to),
               "a block is not aligned at another address");
        heap.deallocate(block);
    }
    std::printf("16 to 4096 bytes: aligned at %p and where it is mapped at %p\n", static_cast<void *>(heap.base()),
                static_cast<void *>(elsewhere.base()));
}

} // namespace

int
main()
{
    const std::string name = practice::heap_name("simd_alignment");
    return practice::run([&] {
        hshm::heap_options options;
        options.custom_header = sizeof(vectors);
        const hshm::heap heap = hshm::heap::create(name, 16 << 20, options);
        auto &shared = heap.header<vectors>();
        shared.x = make_vector(heap, 1, 0.5f);
        shared.y = make_vector(heap, 2, 0.25f);
        const float expected = 2 * sum(shared.x.get()) + sum(shared.y.get());

        practice::process other([&] {
            const hshm::heap attached =
                hshm::heap::attach(name, 10s); /* beside what it inherited: at another address */
            const auto &there = attached.header<vectors>();
            look_at_alignments(attached, heap);
            expect(is_aligned(there.x.get(), alignment) && is_aligned(there.y.get(), alignment),
                   "the vectors are not aligned in another process");
            axpy(2, there.x.get(), there.y.get()); /* would be killed by SIGSEGV if they were not */
        });
        other.must_end_well();

        const float result = sum(shared.y.get());
        std::printf("%zu floats in lines of %zu bytes: another process added 2x to y, and the sum is %.0f\n", count,
                    alignment, static_cast<double>(result));
        expect(std::abs(result - expected) < expected * 1e-5f, "the other process did not compute what it was to");
        heap.deallocate(shared.x.get());
        heap.deallocate(shared.y.get());
    });
}
