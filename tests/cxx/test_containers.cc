/*
 * test_containers.cc - containers in one heap, changed by four processes that have it at four addresses, beside a model.
 *
 * The operations are numbered, and what each does follows from its number and a seed.  A process takes the lock, lets its own
 * model (of std's containers, in its own memory) do all that others have done since, and then does a few operations more, on the
 * containers and on the model, and compares what came out.  Now and then, and in the end, all contents are compared.
 *
 * labels: slow
 */
#include <hshm/cxx/boost.hpp>
#include <hshm/hshm.hpp>

#include "blocks.h"

#include <cstring>
#include <boost/intrusive/list.hpp>
#include <list>
#include <map>
#include <pthread.h>
#include <string>
#include <sys/mman.h>
#include <unordered_map>
#include <vector>

namespace
{

using namespace std::chrono_literals;

enum : std::uint64_t { KEYS = 3000, BATCH = 64, LONG_WORD = 90 };
constexpr int PROCESSES = 4;
constexpr std::uint64_t OPERATIONS = UNDER_SANITIZER ? 40000 : 1000000;
constexpr std::size_t SIZE = std::size_t{ 256 } << 20;

struct node : boost::intrusive::list_base_hook<boost::intrusive::void_pointer<hshm::offset_ptr<void>>> {
    std::uint64_t value;

    explicit node(std::uint64_t v) : value(v) {}
};

/* In the heap. */
struct world {
    pthread_mutex_t lock;
    std::uint64_t done = 0;
    std::uintptr_t bases[PROCESSES] = {};
    std::uint64_t turns[PROCESSES] = {};

    hshm::allocator<char> memory;
    hshm::vector<std::uint64_t> numbers;
    hshm::vector<hshm::string> words;
    hshm::map<std::uint64_t, hshm::string> tree;
    hshm::unordered_map<std::uint64_t, std::uint64_t> table;
    hshm::flat_map<std::uint64_t, std::uint32_t> flat;
    boost::intrusive::list<node> chain;

    explicit world(const hshm::heap &heap)
        : memory(heap), numbers(heap), words(heap), tree(memory), table(memory), flat(memory)
    {
        pthread_mutexattr_t attributes;
        assert_int_equal(pthread_mutexattr_init(&attributes), 0);
        assert_int_equal(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED), 0);
        assert_int_equal(pthread_mutex_init(&lock, &attributes), 0);
    }
    ~world()
    {
        while (!chain.empty())
            drop_first();
    }

    hshm::string word(const std::string &text) { return hshm::string(text.data(), text.size(), memory); }
    void add_last(std::uint64_t value) { chain.push_back(*memory.in().construct<node>(value)); }
    void drop_first()
    {
        node *first = &chain.front();
        chain.pop_front();
        memory.in().destroy(first);
    }
    std::uint64_t first() const { return chain.front().value; }
};

/* In each process's own memory. */
struct model {
    std::vector<std::uint64_t> numbers;
    std::vector<std::string> words;
    std::map<std::uint64_t, std::string> tree;
    std::unordered_map<std::uint64_t, std::uint64_t> table;
    std::map<std::uint64_t, std::uint32_t> flat;
    std::list<std::uint64_t> chain;

    static std::string word(const std::string &text) { return text; }
    void add_last(std::uint64_t value) { chain.push_back(value); }
    void drop_first() { chain.pop_front(); }
    std::uint64_t first() const { return chain.front(); }
};

std::uint64_t
sum_of(const char *text, std::size_t size)
{
    std::uint64_t sum = size;
    for (std::size_t i = 0; i < size; i++)
        sum = sum * 31 + static_cast<unsigned char>(text[i]);
    return sum;
}

/* The operation of that number, on either; what comes out must be the same. */
template <class State>
std::uint64_t
operate(State &on, std::uint64_t seed, std::uint64_t number)
{
    std::uint64_t state = seed + number * UINT64_C(0x9e3779b97f4a7c15);
    const std::uint64_t r = next_random(&state);
    const std::uint64_t key = next_random(&state) % KEYS;
    const bool grow = r >> 60 < 9; /* of 16 */
    const std::string text(r >> 8 & 1 ? r >> 16 & 15 : r >> 16 & (LONG_WORD - 1), static_cast<char>('a' + key % 26));
    switch (r % 6) {
    case 0:
        if (grow || on.numbers.empty())
            on.numbers.push_back(r);
        else if (key % 2 == 0)
            on.numbers.pop_back();
        else
            on.numbers.erase(on.numbers.begin() +
                             static_cast<std::ptrdiff_t>(r >> 32) % static_cast<std::ptrdiff_t>(on.numbers.size()));
        if (on.numbers.size() > 2 * KEYS)
            on.numbers.resize(KEYS);
        return on.numbers.empty() ? 0 : on.numbers.back() + on.numbers.size();
    case 1:
        if (on.words.size() < KEYS / 4)
            on.words.push_back(on.word(text));
        else if (grow)
            on.words[key % on.words.size()] += on.word(text);
        else
            on.words[key % on.words.size()] = on.word(text);
        if (on.words[key % on.words.size()].size() > 20 * LONG_WORD) {
            on.words[key % on.words.size()].clear();
            on.words[key % on.words.size()].shrink_to_fit();
        }
        return sum_of(on.words[key % on.words.size()].data(), on.words[key % on.words.size()].size());
    case 2: {
        if (!grow)
            return on.tree.erase(key);
        const auto at = on.tree.insert_or_assign(key, on.word(text)).first;
        return sum_of(at->second.data(), at->second.size()) + on.tree.size();
    }
    case 3: {
        if (!grow)
            return on.table.erase(key);
        return on.table[key] += r % 1000;
    }
    case 4: {
        if (!grow)
            return on.flat.erase(key);
        return ++on.flat[key];
    }
    default:
        if (grow || on.chain.empty())
            on.add_last(r);
        else
            on.drop_first();
        if (on.chain.size() > KEYS)
            on.drop_first();
        return on.chain.empty() ? 0 : on.first();
    }
}

bool
same(const hshm::string &a, const std::string &b)
{
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), b.size()) == 0;
}

/* Which container is not as the model says?  NULL: all are. */
const char *
first_difference(const world &is, const model &should)
{
    if (!std::equal(is.numbers.begin(), is.numbers.end(), should.numbers.begin(), should.numbers.end()))
        return "vector";
    if (!std::equal(is.words.begin(), is.words.end(), should.words.begin(), should.words.end(), same))
        return "vector of strings";
    const auto same_pair = [](const auto &a, const auto &b) { return a.first == b.first && same(a.second, b.second); };
    if (!std::equal(is.tree.begin(), is.tree.end(), should.tree.begin(), should.tree.end(), same_pair))
        return "map";
    if (is.table.size() != should.table.size())
        return "unordered_map: its size";
    for (const auto &[key, value] : is.table) {
        const auto at = should.table.find(key);
        if (at == should.table.end() || at->second != value || is.table.count(key) != 1)
            return "unordered_map";
    }
    if (!std::equal(is.flat.begin(), is.flat.end(), should.flat.begin(), should.flat.end(),
                    [](const auto &a, const auto &b) { return a.first == b.first && a.second == b.second; }))
        return "flat_map";
    if (!std::equal(is.chain.begin(), is.chain.end(), should.chain.begin(), should.chain.end(),
                    [](const node &a, std::uint64_t b) { return a.value == b; }))
        return "intrusive list";
    return nullptr;
}

struct job {
    const char *name;
    std::uint64_t seed;
    std::uint64_t operations;
    int process; /* set in the child */
};

/* Some operations with the lock held.  What went wrong, or NULL. */
const char *
work(world &shared, model &own, std::uint64_t *inout_done, const job &job, std::uint64_t *inout_random)
{
    while (*inout_done < shared.done)
        operate(own, job.seed, (*inout_done)++);
    if (next_random(inout_random) % 500 == 0) {
        const char *difference = first_difference(shared, own);
        if (difference != nullptr)
            return difference;
    }
    const std::uint64_t end = std::min(job.operations, shared.done + next_random(inout_random) % BATCH);
    for (; *inout_done < end; ++*inout_done) {
        if (operate(shared, job.seed, *inout_done) != operate(own, job.seed, *inout_done))
            return "an operation's outcome";
        shared.done = *inout_done + 1;
    }
    return nullptr;
}

int
one_process(void *arg)
{
    const job &job = *static_cast<const struct job *>(arg);
    /* Forked processes would find the same address free. */
    void *in_the_way = mmap(nullptr, SIZE * static_cast<std::size_t>(job.process + 1), PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(in_the_way, MAP_FAILED);
    hshm::heap heap = hshm::heap::attach(job.name, 10s);
    world *shared = nullptr;
    while ((shared = heap.find<world>("world")) == nullptr)
        sched_yield();
    shared->bases[job.process] = reinterpret_cast<std::uintptr_t>(heap.base());

    model own;
    std::uint64_t done = 0;
    std::uint64_t random = job.seed + static_cast<std::uint64_t>(job.process);
    const char *wrong = nullptr;
    while (done < job.operations && wrong == nullptr) {
        assert_int_equal(pthread_mutex_lock(&shared->lock), 0);
        wrong = work(*shared, own, &done, job, &random);
        shared->turns[job.process]++;
        if (wrong != nullptr)
            shared->done = job.operations; /* the others may stop */
        assert_int_equal(pthread_mutex_unlock(&shared->lock), 0);
        if (next_random(&random) % 4 == 0)
            sched_yield(); /* to others, who may do the next ones */
    }
    if (wrong != nullptr)
        print_error("process %d, operation %llu: %s is not as the model's\n", job.process,
                    static_cast<unsigned long long>(done), wrong);
    return wrong == nullptr ? 0 : 1;
}

void
four_processes(hshm_allocator_kind kind, std::uint64_t operations)
{
    const std::string name = test_name("containers");
    job job = { name.c_str(), test_seed(), operations, 0 };
    pid_t children[PROCESSES];
    for (job.process = 0; job.process < PROCESSES; job.process++)
        children[job.process] = child_start(one_process, &job);

    hshm::heap_options options;
    options.cut = kind;
    options.backend.commit = HSHM_COMMIT_LAZY;
    hshm::heap heap = hshm::heap::create(name, SIZE, options);
    world *shared = heap.construct_named<world>("world", heap);
    for (pid_t child : children)
        assert_int_equal(child_wait(child), 0);

    for (int i = 0; i < PROCESSES; i++) {
        print_message("process %d: %llu turns\n", i, static_cast<unsigned long long>(shared->turns[i]));
        assert_true(shared->turns[i] > 0);
        for (int j = 0; j < i; j++)
            assert_true(shared->bases[i] != shared->bases[j]);
    }
    assert_int_equal(shared->done, operations);
    model should;
    for (std::uint64_t i = 0; i < operations; i++)
        operate(should, job.seed, i);
    const char *difference = first_difference(*shared, should);
    if (difference != nullptr)
        fail_msg("%s is not as the model's", difference);
    assert_true(should.tree.size() > KEYS / 4 && should.chain.size() > 0); /* there was something to compare */

    const hshm_check_report report = heap.check();
    assert_int_equal(report.left_by_dead + report.in_transition, 0);
    assert_true(heap.destroy_named<world>("world"));
    assert_int_equal(heap.check().live_blocks, 0);
}

void
in_a_thread_local_heap(void **)
{
    four_processes(HSHM_ALLOCATOR_THREAD_LOCAL, OPERATIONS);
}

void
in_a_scalable_page_heap(void **)
{
    four_processes(HSHM_ALLOCATOR_SCALABLE_PAGE, UNDER_SANITIZER ? OPERATIONS : OPERATIONS / 10);
}

} // namespace

int
main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_a_thread_local_heap),
        cmocka_unit_test(in_a_scalable_page_heap),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
