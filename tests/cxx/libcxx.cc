/*
 * libcxx.cc - with clang's own standard library, whose containers keep to an allocator's kind of pointer: list, map, unordered_map and
 * their kin (but std::string, which does not compile with such in version 14), made at one address and used at another.  See the script libcxx.
 */
#include <hshm/hshm.hpp>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <forward_list>
#include <functional>
#include <list>
#include <map>
#include <set>
#include <string>
#include <unistd.h>
#include <unordered_map>
#include <unordered_set>

#if !defined(_LIBCPP_VERSION)
#error "this is to be compiled with -stdlib=libc++"
#endif

namespace
{

template <class T> using in_heap = hshm::allocator<T>;

void
expect(bool holds, const char *what)
{
    if (holds)
        return;
    std::fprintf(stderr, "%s\n", what);
    std::exit(1); /* which ends the heaps */
}

hshm::heap here;
hshm::heap there;

template <class C, class Fill>
void
travels(const char *what, Fill fill)
{
    C *made = here.construct_named<C>("container", typename C::allocator_type(here));
    for (int i = 0; i < 2000; i++)
        fill(*made, i);
    C *found = there.find<C>("container");
    expect(found != nullptr && found != made, what);
    int count = 0;
    for (auto &element : *found) {
        const unsigned char *where = reinterpret_cast<const unsigned char *>(&element);
        expect(where > there.base() && where < there.base() + there.stats().region_bytes, what);
        count++;
    }
    expect(count == 2000, what);
    for (int i = 2000; i < 4000; i++)
        fill(*found, i);
    expect(there.destroy_named<C>("container"), what);
    expect(here.check().live_blocks == 0, what);
    std::printf("ok  %s\n", what);
}

} // namespace

int
main()
{
    const std::string name = "hshm-test-libcxx-" + std::to_string(getpid());
    here = hshm::heap::create(name, 16 << 20);
    there = hshm::heap::attach(name);

    const auto append = [](auto &c, int i) { c.push_back(i); };
    const auto insert = [](auto &c, int i) { c.insert(i); };
    const auto assign = [](auto &c, int i) { c[i] = i; };
    travels<hshm::vector<int>>("std::vector", append);
    travels<std::deque<int, in_heap<int>>>("std::deque", append);
    travels<std::list<int, in_heap<int>>>("std::list", append);
    travels<std::forward_list<int, in_heap<int>>>("std::forward_list", [](auto &c, int i) { c.push_front(i); });
    travels<std::set<int, std::less<int>, in_heap<int>>>("std::set", insert);
    travels<std::map<int, int, std::less<int>, in_heap<std::pair<const int, int>>>>("std::map", assign);
    travels<std::unordered_set<int, std::hash<int>, std::equal_to<int>, in_heap<int>>>("std::unordered_set", insert);
    travels<std::unordered_map<int, int, std::hash<int>, std::equal_to<int>, in_heap<std::pair<const int, int>>>>(
        "std::unordered_map", assign);
    return 0;
}
