/*
 * test_pointers.cc - hshm::offset_ptr: it means the same wherever the memory around it lies, and is a pointer otherwise.
 */
#include <hshm/hshm.hpp>

#include "support.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <numeric>
#include <string>
#include <type_traits>
#include <unordered_set>

namespace
{

using hshm::offset_ptr;

struct base {
    int number;
};
struct other_base {
    int other;
};
struct derived : other_base, base {
};

static_assert(std::is_convertible_v<offset_ptr<int>, offset_ptr<const int>>);
static_assert(!std::is_convertible_v<offset_ptr<const int>, offset_ptr<int>>);
static_assert(!std::is_constructible_v<offset_ptr<int>, offset_ptr<const int>>, "that takes a const_cast");
static_assert(std::is_convertible_v<offset_ptr<derived>, offset_ptr<base>>);
static_assert(!std::is_convertible_v<offset_ptr<base>, offset_ptr<derived>>);
static_assert(std::is_constructible_v<offset_ptr<derived>, offset_ptr<base>>);
static_assert(std::is_convertible_v<offset_ptr<int>, offset_ptr<void>>);
static_assert(std::is_constructible_v<offset_ptr<int>, offset_ptr<void>>);
static_assert(!std::is_constructible_v<offset_ptr<int>, offset_ptr<long>>);
static_assert(!std::is_convertible_v<offset_ptr<int>, int *>, "only where it is asked for");
static_assert(std::is_same_v<std::pointer_traits<offset_ptr<int>>::rebind<char>, offset_ptr<char>>);
static_assert(
    std::is_same_v<std::iterator_traits<offset_ptr<int>>::iterator_category, std::random_access_iterator_tag>);
static_assert(sizeof(offset_ptr<int>) == 8);

void
null_is_zero(void **)
{
    offset_ptr<int> null;
    assert_null(null.get());
    assert_true(null == nullptr && nullptr == null && !null && !(null != nullptr));
    const unsigned char zero[sizeof null] = {};
    assert_memory_equal(&null, zero, sizeof null);
    int target = 1;
    null = &target;
    assert_false(null == nullptr);
    null = nullptr;
    assert_memory_equal(&null, zero, sizeof null);
    null = 0;
    assert_true(null == nullptr);
    offset_ptr<int> copy(null);
    assert_true(copy == nullptr);
    assert_null(offset_ptr<void>(copy).get());
}

/* A list that links itself; and then the same bytes elsewhere. */
void
it_means_the_same_at_another_address(void **)
{
    struct node {
        int value;
        offset_ptr<node> next;
        offset_ptr<node> self;
        offset_ptr<node> nothing;
    };
    alignas(node) unsigned char here[3 * sizeof(node)];
    alignas(node) unsigned char there[sizeof here];
    node *nodes = reinterpret_cast<node *>(here);
    for (int i = 0; i < 3; i++)
        new (&nodes[i]) node{ i, nullptr, nullptr, nullptr };
    for (int i = 0; i < 3; i++) {
        nodes[i].next = &nodes[(i + 1) % 3];
        nodes[i].self = &nodes[i];
    }
    std::memcpy(there, here, sizeof here);
    std::memset(here, 0xee, sizeof here);
    node *moved = reinterpret_cast<node *>(there);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(moved[i].value, i);
        assert_ptr_equal(moved[i].next.get(), &moved[(i + 1) % 3]);
        assert_ptr_equal(moved[i].self.get(), &moved[i]);
        assert_null(moved[i].nothing.get());
    }
}

void
a_copy_points_to_the_same_place(void **)
{
    int target = 7;
    offset_ptr<int> a = &target;
    offset_ptr<int> *elsewhere = new offset_ptr<int>(a);
    assert_ptr_equal(elsewhere->get(), &target);
    std::swap(a, *elsewhere);
    assert_ptr_equal(a.get(), &target);
    *elsewhere = std::move(a);
    assert_int_equal(**elsewhere, 7);
    delete elsewhere;
}

void
it_counts_and_compares_as_pointers_do(void **)
{
    int numbers[10];
    std::iota(std::begin(numbers), std::end(numbers), 0);
    offset_ptr<int> first = numbers;
    offset_ptr<const int> end = numbers + 10;
    assert_int_equal(end - first, 10);
    assert_true(first < end && end > first && first <= end && end >= first && first != end);
    assert_true(first == numbers && numbers == first && first < numbers + 1 && numbers + 1 > first);
    assert_int_equal(first[3], 3);
    assert_int_equal(*(first + 3), 3);
    assert_int_equal(*(3 + first), 3);
    assert_int_equal(*(end - 1), 9);
    offset_ptr<int> at = first;
    assert_int_equal(*at++, 0);
    assert_int_equal(*++at, 2);
    assert_int_equal(*at--, 2);
    assert_int_equal(*--at, 0);
    at += 9;
    assert_int_equal(*at, 9);
    at -= 4;
    assert_int_equal(*at, 5);
    std::reverse(first, first + 10);
    assert_int_equal(numbers[0], 9);
    std::sort(first, first + 10);
    assert_int_equal(numbers[0], 0);
    assert_int_equal(std::accumulate(offset_ptr<const int>(first), end, 0), 45);
}

/* A base class lies at another address than the object. */
void
it_converts_as_pointers_do(void **)
{
    derived object{};
    object.number = 5;
    offset_ptr<derived> whole = &object;
    offset_ptr<base> part = whole;
    assert_ptr_equal(part.get(), static_cast<base *>(&object));
    assert_int_equal(part->number, 5);
    assert_ptr_equal(offset_ptr<derived>(part).get(), &object);
    offset_ptr<void> untyped = whole;
    assert_ptr_equal(offset_ptr<derived>(untyped).get(), &object);
    assert_ptr_equal(std::pointer_traits<offset_ptr<base>>::pointer_to(object).get(), static_cast<base *>(&object));
    assert_true(part == whole);
}

void
it_can_be_hashed(void **)
{
    int numbers[3] = {};
    std::unordered_set<offset_ptr<int>> seen;
    for (int round = 0; round < 2; round++) {
        for (int &number : numbers)
            seen.insert(&number);
    }
    assert_int_equal(seen.size(), 3);
    assert_int_equal(seen.count(numbers + 1), 1);
}

} // namespace

int
main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_is_zero),
        cmocka_unit_test(it_means_the_same_at_another_address),
        cmocka_unit_test(a_copy_points_to_the_same_place),
        cmocka_unit_test(it_counts_and_compares_as_pointers_do),
        cmocka_unit_test(it_converts_as_pointers_do),
        cmocka_unit_test(it_can_be_hashed),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
