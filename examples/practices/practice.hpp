/*
 * practice.hpp - what the examples in C++ beside it share, and what has nothing to do with heaps: a sentence and an end when
 * something is not as it should be, a name of the program's own, another process.
 *
 * What goes wrong is thrown, so that whatever owns something lets go of it on the way out.
 */
#ifndef PRACTICE_HPP
#define PRACTICE_HPP

#include <hshm/status.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

namespace practice
{

/* The name of the program's heap: no other run has it, so two of them can be there at once. */
inline std::string
heap_name(const char *program)
{
    return std::string("hshm_") + program + "." + std::to_string(getpid());
}

/* Go on only if things are as promised. */
inline void
expect(bool holds, const char *what)
{
    if (!holds)
        throw std::runtime_error(what);
}

/* Go on only if a call of the library went well.  The sentence is asked for after it. */
inline void
check(bool well)
{
    if (!well)
        throw std::runtime_error(hshm_last_error());
}

/* Do it, and say in a sentence what stood in its way.  What the library throws is a std::exception too. */
template <class Body>
int
status_of(Body &&body) noexcept
{
    int status = EXIT_SUCCESS;
    try {
        body();
    } catch (const std::exception &wrong) {
        std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, wrong.what());
        status = EXIT_FAILURE;
    }
    std::fflush(stdout);
    return status;
}

/* These programs take a moment only: Ctrl-C may wait until all is tidied up. */
template <class Body>
int
run(Body &&body)
{
    sigset_t held;
    sigemptyset(&held);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGTERM);
    sigprocmask(SIG_BLOCK, &held, nullptr);
    return status_of(body);
}

/* Another process, which does something and ends; it is waited for. */
class process
{
  public:
    template <class Body> explicit process(Body &&body)
    {
        std::fflush(stdout);
        pid_ = fork();
        expect(pid_ >= 0, "no process can be started");
        if (pid_ == 0)
            _exit(status_of(body)); /* what the parent owns is the parent's to end */
    }
    process(const process &) = delete;
    process &operator=(const process &) = delete;
    ~process() { (void)wait(); }

    /* It must have found all well; if not, it said so itself. */
    void must_end_well() { expect(wait() == 0, "the other process found something wrong"); }

  private:
    int wait() noexcept
    {
        if (pid_ > 0 && waitpid(pid_, &status_, 0) == pid_)
            pid_ = 0;
        return status_;
    }

    pid_t pid_ = 0;
    int status_ = -1;
};

} // namespace practice

#endif
