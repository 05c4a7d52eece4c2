// Containers, strings, exceptions and threads that free what others took: what C++ asks of malloc through operator new.
#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

struct alignas(256) Wide {
    std::uint64_t words[32];
};

class Queue {
public:
    void put(std::unique_ptr<std::string> text)
    {
        const std::lock_guard<std::mutex> guard(lock_);
        items_.push_back(std::move(text));
        filled_.notify_one();
    }

    std::unique_ptr<std::string> take()
    {
        std::unique_lock<std::mutex> guard(lock_);
        filled_.wait(guard, [this] { return !items_.empty(); });
        auto text = std::move(items_.front());
        items_.pop_front();
        return text;
    }

private:
    std::mutex lock_;
    std::condition_variable filled_;
    std::deque<std::unique_ptr<std::string>> items_;
};

// Blocks made by one thread are freed by another; an empty pointer is the end.
std::size_t hand_over()
{
    constexpr int pairs = 3;
    std::vector<std::size_t> sums(pairs);
    std::vector<std::thread> threads;
    std::vector<Queue> queues(pairs);
    for (int i = 0; i < pairs; i++) {
        threads.emplace_back([&, i] {
            for (int n = 0; n < 20000; n++)
                queues[i].put(std::make_unique<std::string>(n % 200, static_cast<char>('a' + n % 26)));
            queues[i].put(nullptr);
        });
        threads.emplace_back([&, i] {
            while (auto text = queues[i].take())
                sums[i] += text->size() * (text->empty() ? 1 : text->front());
        });
    }
    for (auto &thread : threads)
        thread.join();
    return std::accumulate(sums.begin(), sums.end(), std::size_t{ 0 });
}

std::uint64_t containers(unsigned seed)
{
    std::map<std::string, std::vector<int>> ordered;
    std::unordered_map<std::uint64_t, std::shared_ptr<std::string>> hashed;
    std::uint64_t state = seed;
    for (int i = 0; i < 30000; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        ordered["key " + std::to_string(state >> 54)].push_back(i);
        if ((state >> 30) % 3 == 0)
            hashed.erase(state >> 52);
        else
            hashed[state >> 52] = std::make_shared<std::string>(state >> 57, 'x');
    }
    std::uint64_t sum = 0;
    for (const auto &entry : ordered)
        sum = sum * 31 + entry.first.size() * entry.second.size() + entry.second.back();
    for (std::uint64_t key = 0; key < 4096; key++)
        sum = sum * 31 + (hashed.count(key) != 0 ? hashed[key]->size() : 0);
    return sum;
}

int thrown()
{
    int caught = 0;
    for (int i = 0; i < 1000; i++) {
        try {
            const std::vector<std::string> on_the_way(10, std::string(100, 'y'));
            throw std::runtime_error(on_the_way.front() + std::to_string(i));
        } catch (const std::exception &e) {
            caught += static_cast<int>(std::string(e.what()).size());
        }
    }
    try {
        volatile std::size_t huge = SIZE_MAX / 4;
        std::cout << "got " << static_cast<void *>(new char[huge]) << "\n";
    } catch (const std::bad_alloc &) {
        std::cout << "bad_alloc, as it should be\n";
    }
    return caught;
}

} // namespace

int main()
{
    std::cout << hand_over() << "\n";
    std::vector<std::uint64_t> sums(4);
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < sums.size(); i++)
        threads.emplace_back([&sums, i] { sums[i] = containers(i); });
    for (auto &thread : threads)
        thread.join();
    for (const auto sum : sums)
        std::cout << sum << "\n";
    std::cout << thrown() << "\n";
    std::vector<std::unique_ptr<Wide>> wide;
    for (int i = 0; i < 500; i++)
        wide.push_back(std::make_unique<Wide>());
    std::cout << std::all_of(wide.begin(), wide.end(),
                             [](const auto &one) { return reinterpret_cast<std::uintptr_t>(one.get()) % 256 == 0; })
              << "\n";
    std::ostringstream stream;
    for (int i = 0; i < 10000; i++)
        stream << i << ' ';
    std::cout << stream.str().size() << "\n";
}
