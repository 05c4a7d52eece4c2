/*
 * tags.cc - by which numbers heaps know some types; see the script tags.
 */
#include <hshm/hshm.hpp>

#include <array>
#include <cinttypes>
#include <cstdio>

namespace shop
{
struct orders {
    std::uint64_t count;
};
enum class state : std::uint32_t { open };
template <class T> struct pair_of {
    T a, b;
};
struct named {
    std::array<unsigned long, 3> numbers;
};
} // namespace shop

template <> inline constexpr const char *hshm::type_name<shop::pair_of<unsigned long>> = "shop.pair/1";

template <class T>
void
show(const char *what)
{
    std::printf("%s %016" PRIx64 "\n", what, hshm::detail::type_tag<T>());
}

int
main()
{
    show<bool>("bool");
    show<char>("char");
    show<short>("short");
    show<int>("int");
    show<unsigned long>("unsigned long");
    show<long long>("long long");
    show<std::uint64_t>("uint64_t");
    show<float>("float");
    show<double>("double");
    show<shop::orders>("a struct");
    show<shop::state>("an enum");
    show<shop::named>("a struct of a template");
    show<shop::pair_of<unsigned long>>("a template with a name of its own");
    return 0;
}
