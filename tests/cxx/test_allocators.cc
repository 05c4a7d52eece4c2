/*
 * test_allocators.cc - what containers take memory from: allocator, local_allocator, memory_resource; and which containers can be
 * read at another address.
 */
#include <hshm/cxx/boost.hpp>
#include <hshm/hshm.hpp>

#include "blocks.h"

#include <cstring>
#include <array>
#include <boost/circular_buffer.hpp>
#include <boost/container/flat_set.hpp>
#include <boost/container/small_vector.hpp>
#include <boost/container/stable_vector.hpp>
#include <boost/container/vector.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>
#include <boost/multi_index/hashed_index.hpp>
#include <boost/multi_index/identity.hpp>
#include <boost/multi_index/ordered_index.hpp>
#include <boost/multi_index_container.hpp>
#include <csignal>
#include <deque>
#include <list>
#include <map>
#include <numeric>
#include <scoped_allocator>
#include <string>
#include <unordered_map>

namespace
{

constexpr std::size_t MIB = std::size_t{ 1 } << 20;

/* ---- containers, made at one address and used at another: the table of docs/cxx.md ---- */

struct two_addresses {
    std::string name = test_name("kinds");
    hshm::heap here = hshm::heap::create(name, 16 * MIB);
    hshm::heap there = hshm::heap::attach(name);
};

/* Fill it here; read, change and destroy it there. */
template <class C, class Fill>
void
travels(Fill fill)
{
    two_addresses at;
    C *made = at.here.construct_named<C>("container", typename C::allocator_type(at.here));
    for (int i = 0; i < 2000; i++)
        fill(*made, i);
    C *found = at.there.find<C>("container");
    assert_non_null(found);
    assert_ptr_not_equal(found, made);
    assert_int_equal(found->size(), 2000);
    std::size_t count = 0;
    for (auto &element : *found) {
        const unsigned char *where = reinterpret_cast<const unsigned char *>(&element);
        assert_true(where > at.there.base() && where < at.there.base() + 16 * MIB);
        count++;
    }
    assert_int_equal(count, 2000);
    for (int i = 2000; i < 4000; i++)
        fill(*found, i);
    assert_int_equal(made->size(), 4000);
    found->erase(found->begin());
    assert_int_equal(made->size(), 3999);
    assert_true(at.there.destroy_named<C>("container"));
    assert_int_equal(at.here.check().live_blocks, 0);
}

template <class C>
void
sequence_travels()
{
    travels<C>([](C &c, int i) { c.push_back(i); });
}

template <class C>
void
set_travels()
{
    travels<C>([](C &c, int i) { c.insert(i); });
}

template <class C>
void
map_travels()
{
    travels<C>([](C &c, int i) { c[i] = i * i; });
}

void
sequences_travel(void **)
{
    sequence_travels<hshm::vector<int>>();
    sequence_travels<std::deque<int, hshm::allocator<int>>>();
    sequence_travels<hshm::deque<int>>();
    sequence_travels<hshm::list<int>>();
    sequence_travels<boost::container::vector<int, hshm::allocator<int>>>();
    sequence_travels<boost::container::stable_vector<int, hshm::allocator<int>>>();
    sequence_travels<boost::container::small_vector<int, 8, hshm::allocator<int>>>();
    travels<hshm::string>([](hshm::string &s, int i) { s.push_back(static_cast<char>('a' + i % 26)); });
}

void
sets_and_maps_travel(void **)
{
    set_travels<hshm::set<int>>();
    set_travels<hshm::unordered_set<int>>();
    map_travels<hshm::map<int, int>>();
    map_travels<hshm::flat_map<int, int>>();
    map_travels<hshm::unordered_map<int, int>>();
    set_travels<boost::container::multiset<int, std::less<int>, hshm::allocator<int>>>();
    set_travels<boost::container::flat_set<int, std::less<int>, hshm::allocator<int>>>();
}

/* Boost.MultiIndex and CircularBuffer keep to the allocator's pointers, too. */
void
others_of_boost_travel(void **)
{
    namespace mi = boost::multi_index;
    using indexed = mi::multi_index_container<
        int, mi::indexed_by<mi::ordered_unique<mi::identity<int>>, mi::hashed_unique<mi::identity<int>>>,
        hshm::allocator<int>>;
    two_addresses at;
    indexed *made = at.here.construct_named<indexed>("indexed", hshm::allocator<int>(at.here));
    for (int i = 0; i < 2000; i++)
        made->insert(i * 7 % 2003);
    indexed *found = at.there.find<indexed>("indexed");
    assert_int_equal(*found->begin(), 0);
    assert_true(found->get<1>().find(1400) != found->get<1>().end());
    assert_true(std::is_sorted(found->begin(), found->end()));
    assert_true(at.there.destroy_named<indexed>("indexed"));

    using ring = boost::circular_buffer<int, hshm::allocator<int>>;
    ring *around = at.here.construct_named<ring>("ring", 100u, hshm::allocator<int>(at.here));
    for (int i = 0; i < 250; i++)
        around->push_back(i);
    assert_int_equal(at.there.find<ring>("ring")->front(), 150);
    assert_true(at.there.destroy_named<ring>("ring"));
    assert_int_equal(at.here.check().live_blocks, 0);
}

struct person : boost::intrusive::set_base_hook<boost::intrusive::void_pointer<hshm::offset_ptr<void>>,
                                                boost::intrusive::optimize_size<false>> {
    int age = 0;
    bool operator<(const person &other) const { return age < other.age; }
};

void
intrusive_trees_travel(void **)
{
    using people = boost::intrusive::multiset<person>;
    two_addresses at;
    people *made = at.here.construct_named<people>("people");
    for (int i = 0; i < 100; i++) {
        person *one = at.here.construct<person>();
        one->age = i * 37 % 100;
        made->insert(*one);
    }
    people *found = at.there.find<people>("people");
    int age = 0;
    for (const person &one : *found)
        assert_int_equal(one.age, age++);
    found->clear_and_dispose([&](const auto &one) { at.there.destroy(std::addressof(*one)); });
    assert_true(at.there.destroy_named<people>("people"));
    assert_int_equal(at.here.check().live_blocks, 0);
}

/* Containers of containers: the elements go to the same heap by themselves. */
void
containers_of_containers_travel(void **)
{
    using words = std::vector<hshm::string, std::scoped_allocator_adaptor<hshm::allocator<hshm::string>>>;
    using shelves = hshm::map<int, words>;
    two_addresses at;
    shelves *made = at.here.construct_named<shelves>("shelves", hshm::allocator<char>(at.here));
    for (int i = 0; i < 50; i++) {
        words &shelf = made->try_emplace(i, hshm::allocator<hshm::string>(at.here)).first->second;
        for (int j = 0; j < 20; j++)
            shelf.emplace_back("a title that is too long for the string's own room");
    }
    shelves *found = at.there.find<shelves>("shelves");
    assert_true(found->at(49)[19] == "a title that is too long for the string's own room");
    assert_true(at.there.destroy_named<shelves>("shelves"));
    assert_int_equal(at.here.check().live_blocks, 0);
}

/* ---- the allocator ---- */

static_assert(std::is_same_v<std::allocator_traits<hshm::allocator<int>>::pointer, hshm::offset_ptr<int>>);
static_assert(std::is_same_v<std::allocator_traits<hshm::allocator<int>>::rebind_alloc<char>, hshm::allocator<char>>);
static_assert(!std::allocator_traits<hshm::allocator<int>>::is_always_equal::value);
static_assert(!std::is_default_constructible_v<hshm::allocator<int>>, "it would have no heap");

void
containers_stay_in_their_heap(void **)
{
    hshm::heap a = hshm::heap::create(test_name("a"), MIB);
    hshm::heap b = hshm::heap::create(test_name("b"), MIB);
    {
        hshm::vector<int> in_a(1000, 5, a);
        hshm::vector<int> in_b(b);
        assert_true(in_a.get_allocator() == hshm::allocator<char>(a));
        assert_true(in_a.get_allocator() != in_b.get_allocator());
        assert_ptr_equal(in_a.get_allocator().in().get(), a.get());
        in_b = in_a;
        assert_true(in_b.get_allocator() == hshm::allocator<int>(b));
        in_b = std::move(in_a);
        assert_int_equal(in_b[999], 5);
        assert_true(in_b.get_allocator() == hshm::allocator<int>(b));
        hshm::vector<int> copy = in_b;
        assert_true(copy.get_allocator() == in_b.get_allocator());
        hshm::vector<int> moved = std::move(in_b);
        copy.swap(moved);
        assert_int_equal(b.stats().live_blocks, 2);
        in_a.clear();
        in_a.push_back(1); /* what was moved from can be used again */
    }
    assert_int_equal(a.check().live_blocks + b.check().live_blocks, 0);
}

void
an_allocator_may_outlive_its_heap(void **)
{
    hshm::heap heap = hshm::heap::create(test_name("left"), MIB);
    hshm::allocator<int> left(heap);
    hshm::vector<int> empty(heap);
    heap.close();
    hshm_status status = HSHM_OK;
    try {
        empty.push_back(1);
    } catch (const hshm::error &error) {
        status = error.status();
    }
    assert_int_equal(status, HSHM_E_NOTFOUND);
    left.deallocate(nullptr, 1);
}

struct alignas(256) page {
    std::array<unsigned char, 256> bytes;
};

void
elements_are_aligned(void **)
{
    hshm::heap heap = hshm::heap::create(test_name("aligned"), 4 * MIB);
    hshm::vector<page> pages(heap);
    std::vector<page, hshm::local_allocator<page>> local{ hshm::local_allocator<page>(heap) };
    for (int i = 0; i < 100; i++) {
        pages.emplace_back();
        local.emplace_back();
        assert_int_equal(reinterpret_cast<std::uintptr_t>(&pages.back()) % 256, 0);
        assert_int_equal(reinterpret_cast<std::uintptr_t>(&local.back()) % 256, 0);
    }
}

/* ---- for one process ---- */

template <class T> using local = hshm::local_allocator<T>;

void
local_containers_may_be_any(void **)
{
    for (const hshm_allocator_kind kind :
         { HSHM_ALLOCATOR_THREAD_LOCAL, HSHM_ALLOCATOR_SCALABLE_PAGE, HSHM_ALLOCATOR_STACK }) {
        hshm::heap_options options;
        options.cut = kind;
        hshm::heap heap = hshm::heap::create(test_name("local"), 4 * MIB, options);
        {
            std::map<int, int, std::less<int>, local<std::pair<const int, int>>> tree(heap);
            std::unordered_map<int, int *, std::hash<int>, std::equal_to<int>, local<std::pair<const int, int *>>>
                table(0, std::hash<int>(), std::equal_to<int>(), heap);
            std::list<std::string, local<std::string>> list(heap);
            for (int i = 0; i < 500; i++) {
                tree[i] = i;
                table[i] = &tree[i];
                list.emplace_back(40, 'x');
            }
            assert_int_equal(*table[77], 77);
            assert_true(heap.stats().live_blocks >= 1500 || kind == HSHM_ALLOCATOR_STACK);
            auto other = list;
            other.swap(list);
        }
        assert_int_equal(heap.check().live_blocks, 0);
    }
}

void
a_memory_resource_serves_pmr(void **)
{
    for (const hshm_lifetime lifetime : { HSHM_LIFETIME_HEAP, HSHM_LIFETIME_PROCESS }) {
        hshm::memory_resource resource(hshm::heap::create(test_name("pmr"), 4 * MIB), lifetime);
        {
            std::pmr::map<std::pmr::string, std::pmr::vector<page>> all(&resource);
            for (int i = 0; i < 30; i++) {
                auto &pages =
                    all.try_emplace(std::pmr::string(static_cast<std::size_t>(i) + 20, 'k', &resource)).first->second;
                pages.resize(4);
                assert_int_equal(reinterpret_cast<std::uintptr_t>(pages.data()) % 256, 0);
            }
            assert_true(resource.in().stats().live_blocks >= 90);
        }
        assert_int_equal(resource.in().check().live_blocks, 0);
        hshm::memory_resource other(resource.in());
        assert_true(resource.is_equal(resource) && !resource.is_equal(other));
        /* Alignments that blocks have, and have not, by themselves. */
        for (std::size_t alignment = 1; alignment <= 8192; alignment *= 2) {
            void *block = resource.allocate(100, alignment);
            assert_int_equal(reinterpret_cast<std::uintptr_t>(block) % alignment, 0);
            std::memset(block, 0xaa, 100);
            resource.deallocate(block, 100, alignment);
        }
        assert_int_equal(resource.in().check().live_blocks, 0);
    }
}

int
fill_and_be_killed(void *arg)
{
    hshm::heap heap = hshm::heap::attach(static_cast<const char *>(arg));
    std::vector<int, local<int>> mine(1000, 1, local<int>(heap, HSHM_LIFETIME_PROCESS));
    hshm::memory_resource resource(heap, HSHM_LIFETIME_PROCESS);
    std::pmr::vector<page> also(10, page(), &resource);
    std::raise(SIGKILL);
    return static_cast<int>(mine.size() + also.size());
}

void
what_a_killed_process_had_for_itself_goes(void **)
{
    const std::string name = test_name("killed");
    hshm::heap heap = hshm::heap::create(name, 4 * MIB);
    assert_int_equal(child_run(fill_and_be_killed, const_cast<char *>(name.c_str())), 128 + SIGKILL);
    assert_int_equal(heap.stats().live_blocks, 2);
    assert_int_equal(heap.recover().blocks, 2);
    assert_int_equal(heap.check().live_blocks, 0);
}

} // namespace

int
main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences_travel),
        cmocka_unit_test(sets_and_maps_travel),
        cmocka_unit_test(others_of_boost_travel),
        cmocka_unit_test(intrusive_trees_travel),
        cmocka_unit_test(containers_of_containers_travel),
        cmocka_unit_test(containers_stay_in_their_heap),
        cmocka_unit_test(an_allocator_may_outlive_its_heap),
        cmocka_unit_test(elements_are_aligned),
        cmocka_unit_test(local_containers_may_be_any),
        cmocka_unit_test(a_memory_resource_serves_pmr),
        cmocka_unit_test(what_a_killed_process_had_for_itself_goes),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
