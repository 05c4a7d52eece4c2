/*
 * bench_cxx.cc - what it costs a container to lie in a heap: allocators, and the pointers that they bring.
 *
 * The same containers of Boost with four allocators: std::allocator; hshm::local_allocator, whose pointers are plain;
 * hshm::allocator, whose pointers are offset_ptr; and, beside it, Boost.Interprocess's own on its own segment.  One thread; the
 * heap is a ThreadLocal one in POSIX shared memory.  Rounds are interleaved; figures are medians, and ratios to std::allocator.
 */
#include <hshm/hshm.hpp>

#include <algorithm>
#include <boost/container/map.hpp>
#include <boost/container/vector.hpp>
#include <boost/functional/hash.hpp>
#include <boost/interprocess/allocators/allocator.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/unordered_map.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <unistd.h>
#include <vector>

namespace
{

namespace bc = boost::container;
namespace bip = boost::interprocess;

constexpr int ROUNDS = 15;
constexpr int COUNT = 20000;
constexpr std::size_t SIZE = std::size_t{ 64 } << 20;

volatile std::uint64_t sink;

std::uint32_t
key_of(int i)
{
    return static_cast<std::uint32_t>(i) * 2654435761u;
}

template <class F>
double
ns_an_operation(F &&work)
{
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count() / COUNT;
}

enum { APPEND, WALK, TREE_FILL, TREE_FIND, TABLE_FILL, TABLE_FIND, CASES };
const char *const titles[CASES] = { "vector: push_back",
                                    "vector: read in turn",
                                    "map: insert and erase",
                                    "map: find",
                                    "unordered_map: insert and erase",
                                    "unordered_map: find" };

/* One round of all cases, with the allocator that a template gives for each type. */
template <template <class> class A, class Source>
void
round_of(const Source &source, double *ret_ns)
{
    using pair = std::pair<const std::uint32_t, std::uint32_t>;
    using table_type = boost::unordered_map<std::uint32_t, std::uint32_t, boost::hash<std::uint32_t>,
                                            std::equal_to<std::uint32_t>, A<pair>>;
    bc::vector<std::uint32_t, A<std::uint32_t>> vector{ A<std::uint32_t>(source) };
    bc::map<std::uint32_t, std::uint32_t, std::less<std::uint32_t>, A<pair>> tree{ A<pair>(source) };
    table_type table{ A<pair>(source) };

    ret_ns[APPEND] = ns_an_operation([&] {
        for (int i = 0; i < COUNT; i++)
            vector.push_back(key_of(i));
    });
    ret_ns[WALK] = ns_an_operation([&] {
        std::uint64_t sum = 0;
        for (std::uint32_t number : vector)
            sum = sum * 3 + number;
        sink = sum;
    });
    const auto fill_and_find = [&](auto &map, double *ret_fill, double *ret_find) {
        for (int i = 0; i < COUNT / 2; i++)
            map[key_of(i)] = 1;
        *ret_fill = ns_an_operation([&] {
            for (int i = 0; i < COUNT; i++) {
                map[key_of(i + COUNT / 2)] = 1;
                map.erase(key_of(i));
            }
        });
        *ret_find = ns_an_operation([&] {
            std::uint64_t sum = 0;
            for (int i = 0; i < COUNT; i++)
                sum += map.count(key_of(i + COUNT / 2));
            sink = sum;
        });
    };
    fill_and_find(tree, &ret_ns[TREE_FILL], &ret_ns[TREE_FIND]);
    fill_and_find(table, &ret_ns[TABLE_FILL], &ret_ns[TABLE_FIND]);
}

template <class T> class of_std : public std::allocator<T>
{
  public:
    template <class U> struct rebind {
        using other = of_std<U>;
    };
    explicit of_std(int) {}
    template <class U> of_std(const of_std<U> &) {}
};
template <class T> using of_boost = bip::allocator<T, bip::managed_shared_memory::segment_manager>;

enum { STD, LOCAL, HSHM, BOOST, SUBJECTS };

double
median(std::vector<double> values)
{
    std::nth_element(values.begin(), values.begin() + ROUNDS / 2, values.end());
    return values[ROUNDS / 2];
}

} // namespace

int
main()
{
    const std::string name = "hshm-bench-cxx-" + std::to_string(getpid());
    const hshm::heap heap = hshm::heap::create(name, SIZE);
    const std::string boost_name = name + "-boost";
    struct remover {
        const char *name;
        ~remover() { bip::shared_memory_object::remove(name); }
    } remove_at_end{ boost_name.c_str() };
    bip::managed_shared_memory segment(bip::create_only, boost_name.c_str(), SIZE);

    std::vector<double> ns[SUBJECTS][CASES];
    for (int round = 0; round < ROUNDS + 1; round++) {
        double of[SUBJECTS][CASES];
        round_of<of_std>(0, of[STD]);
        round_of<hshm::local_allocator>(heap, of[LOCAL]);
        round_of<hshm::allocator>(heap, of[HSHM]);
        round_of<of_boost>(segment.get_segment_manager(), of[BOOST]);
        for (int subject = 0; subject < SUBJECTS; subject++) {
            for (int i = 0; i < CASES && round > 0; i++) /* the first touches the memory */
                ns[subject][i].push_back(of[subject][i]);
        }
    }
    std::printf("%-32s %9s  %16s  %16s  %18s\n", "ns an operation (ratio)", "std", "local_allocator", "allocator",
                "Boost.Interprocess");
    for (int i = 0; i < CASES; i++) {
        const double std_ns = median(ns[STD][i]);
        std::printf("%-32s %9.1f", titles[i], std_ns);
        for (int subject = LOCAL; subject < SUBJECTS; subject++)
            std::printf("  %8.1f (%5.2f)", median(ns[subject][i]), median(ns[subject][i]) / std_ns);
        std::printf("\n");
    }
    return 0;
}
