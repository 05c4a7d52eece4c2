/*
 * test_error.c - statuses and sentences: which there are, and what the last failure of a thread is.
 */
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* cmocka has a macro of that name, which this file does without. */
#undef fail
#include "base/error.h"

/* In a thread of its own, so that nothing has failed in it before. */
static void
in_new_thread(void *(*fn)(void *arg), void *arg)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, fn, arg), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* What another thread saw, to be judged in the test's own. */
struct view {
    hshm_status before, after;
    char sentence_before[64], sentence_after[64];
};

static void *
look_and_fail(void *arg)
{
    struct view *view = arg;
    view->before = hshm_last_status();
    (void)snprintf(view->sentence_before, sizeof view->sentence_before, "%s", hshm_last_error());
    (void)fail(HSHM_E_BUSY, "failed in a thread");
    view->after = hshm_last_status();
    (void)snprintf(view->sentence_after, sizeof view->sentence_after, "%s", hshm_last_error());
    return NULL;
}

static void
each_thread_has_its_own_last_failure(void **state)
{
    (void)state;
    struct view view = { .before = HSHM_E_SYSTEM };
    (void)fail(HSHM_E_PERM, "failed in the test");
    in_new_thread(look_and_fail, &view);
    assert_int_equal(view.before, HSHM_OK);
    assert_string_equal(view.sentence_before, "");
    assert_int_equal(view.after, HSHM_E_BUSY);
    assert_string_equal(view.sentence_after, "failed in a thread");
    assert_int_equal(hshm_last_status(), HSHM_E_PERM);
    assert_string_equal(hshm_last_error(), "failed in the test");
}

static void
libraries_on_top_leave_failures_of_their_own(void **state)
{
    (void)state;
    char sentence[2000];
    memset(sentence, 'x', sizeof sentence - 1);
    sentence[sizeof sentence - 1] = '\0';
    assert_int_equal(hshm_set_last_error(HSHM_E_TIMEOUT, "said on rank 3: %s"), HSHM_E_TIMEOUT);
    assert_int_equal(hshm_last_status(), HSHM_E_TIMEOUT);
    assert_string_equal(hshm_last_error(), "said on rank 3: %s");
    assert_int_equal(hshm_set_last_error(HSHM_E_PERM, hshm_last_error()), HSHM_E_PERM);
    assert_string_equal(hshm_last_error(), "said on rank 3: %s");
    assert_int_equal(hshm_set_last_error(HSHM_E_BUSY, sentence), HSHM_E_BUSY);
    assert_int_equal(strlen(hshm_last_error()), 767);
    assert_int_equal(hshm_set_last_error(HSHM_E_BUSY, NULL), HSHM_E_BUSY);
    assert_string_equal(hshm_last_error(), hshm_status_text(HSHM_E_BUSY));
    assert_int_equal(hshm_set_last_error(HSHM_OK, "ignored"), HSHM_OK);
    assert_int_equal(hshm_last_status(), HSHM_OK);
    assert_string_equal(hshm_last_error(), "");
}

static void
success_leaves_the_last_failure_alone(void **state)
{
    (void)state;
    assert_int_equal(fail(HSHM_E_KIND, "an old failure"), HSHM_E_KIND);
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, 65536, HSHM_ALLOCATOR_STACK);
    assert_ok(hshm_free(heap, hshm_malloc(heap, 10)));
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_int_equal(hshm_last_status(), HSHM_E_KIND);
    assert_string_equal(hshm_last_error(), "an old failure");
}

static void
the_previous_sentence_may_be_part_of_the_next(void **state)
{
    (void)state;
    (void)fail(HSHM_E_SYSTEM, "the cause");
    (void)fail(HSHM_E_NOSPC, "first: %s; and again: %s", hshm_last_error(), hshm_last_error());
    assert_string_equal(hshm_last_error(), "first: the cause; and again: the cause");
    assert_int_equal(hshm_last_status(), HSHM_E_NOSPC);
}

static void
a_long_sentence_is_cut_and_ends(void **state)
{
    (void)state;
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)fail(HSHM_E_INVAL, "begin %s end", text);
    const size_t length = strlen(hshm_last_error());
    assert_in_range(length, 500, 2000);
    assert_memory_equal(hshm_last_error(), "begin xxx", 9);
    assert_int_equal(hshm_last_error()[length - 1], 'x');

    /* Cut again and again, it stays whole. */
    for (int i = 0; i < 10; i++)
        (void)fail(HSHM_E_INVAL, "again: %s", hshm_last_error());
    assert_int_equal(strlen(hshm_last_error()), length);
    assert_memory_equal(hshm_last_error(), "again: again: ", 14);
}

static void
errno_is_told_in_words_and_number(void **state)
{
    (void)state;
    assert_string_equal(errno_text(ENOSPC), "No space left on device (errno 28)");
    assert_non_null(strstr(errno_text(99999), "99999"));
    (void)fail(HSHM_E_SYSTEM, "it said: %s", errno_text(EACCES));
    assert_string_equal(hshm_last_error(), "it said: Permission denied (errno 13)");
}

static void
sizes_are_told_for_people_and_exactly(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        { 0, "0 bytes" },
        { 1, "1 bytes" },
        { 1023, "1023 bytes" },
        { 1024, "1.0 KiB (1024)" },
        { 1536, "1.5 KiB (1536)" },
        { UINT64_C(64) << 20, "64.0 MiB (67108864)" },
        { UINT64_C(1) << 30, "1.0 GiB (1073741824)" },
        { UINT64_C(1) << 40, "1.0 TiB (1099511627776)" },
        { UINT64_C(1) << 50, "1.0 PiB (1125899906842624)" },
        { UINT64_C(1) << 60, "1.0 EiB (1152921504606846976)" },
        { UINT64_MAX, "16.0 EiB (18446744073709551615)" },
    };
    for (size_t i = 0; i < COUNTOF(cases); i++)
        assert_string_equal(size_text(cases[i].bytes).s, cases[i].text);
}

/* ---- the table of statuses ---- */

static void
every_status_has_its_number_name_and_text(void **state)
{
    (void)state;
    static const struct {
        hshm_status status;
        int number;
        const char *name, *text;
    } all[] = { { HSHM_OK, 0, "HSHM_OK", "success" },
#define ROW(name, number, text) { HSHM_E_##name, number, "HSHM_E_" #name, text },
                HSHM_STATUS_MAP(ROW)
#undef ROW
    };
    assert_int_equal(COUNTOF(all), 20);
    for (size_t i = 0; i < COUNTOF(all); i++) {
        assert_int_equal(all[i].status, all[i].number);
        assert_int_equal(all[i].number, i); /* no gaps, none twice */
        assert_string_equal(hshm_status_name(all[i].status), all[i].name);
        assert_string_equal(hshm_status_text(all[i].status), all[i].text);
        assert_true(strlen(all[i].text) > 5);
    }
}

/* Part of the ABI: by hand, so that a change of the table has to be made twice, knowingly. */
static void
the_numbers_never_change(void **state)
{
    (void)state;
    assert_int_equal(HSHM_E_INVAL, 1);
    assert_int_equal(HSHM_E_NOMEM, 2);
    assert_int_equal(HSHM_E_NOSPC, 3);
    assert_int_equal(HSHM_E_EXISTS, 4);
    assert_int_equal(HSHM_E_NOTFOUND, 5);
    assert_int_equal(HSHM_E_PERM, 6);
    assert_int_equal(HSHM_E_BUSY, 7);
    assert_int_equal(HSHM_E_TIMEOUT, 8);
    assert_int_equal(HSHM_E_NOTSUP, 9);
    assert_int_equal(HSHM_E_KIND, 10);
    assert_int_equal(HSHM_E_NOTREADY, 11);
    assert_int_equal(HSHM_E_CORRUPT, 12);
    assert_int_equal(HSHM_E_VERSION, 13);
    assert_int_equal(HSHM_E_ABI, 14);
    assert_int_equal(HSHM_E_DAMAGED, 15);
    assert_int_equal(HSHM_E_BADFREE, 16);
    assert_int_equal(HSHM_E_LIMIT, 17);
    assert_int_equal(HSHM_E_DEVICE, 18);
    assert_int_equal(HSHM_E_SYSTEM, 19);
}

static void
numbers_that_are_no_status_have_a_name_too(void **state)
{
    (void)state;
    static const int unknown[] = { -1, 20, 21, 100, INT32_MAX, INT32_MIN };
    for (size_t i = 0; i < COUNTOF(unknown); i++) {
        /* Through a variable that no compiler knows the value of. */
        volatile int number = unknown[i];
        assert_string_equal(hshm_status_name((hshm_status)number), "HSHM_E_?");
        assert_string_equal(hshm_status_text((hshm_status)number), "not a status of this library");
    }
}

/* ---- structs of options, and versions ---- */

static void
structs_may_grow_and_not_shrink(void **state)
{
    (void)state;
    assert_ok(check_struct_size("some_options", 16, 16));
    assert_ok(check_struct_size("some_options", 17, 16));
    assert_ok(check_struct_size("some_options", SIZE_MAX, 16));
    assert_status(check_struct_size("some_options", 15, 16), HSHM_E_INVAL);
    assert_sentence("some_options.struct_size is 15, at least 16 expected");
    assert_sentence("_INIT");
    assert_status(check_struct_size("some_options", 0, 16), HSHM_E_INVAL);
}

static void
options_without_their_size_are_refused(void **state)
{
    (void)state;
    const hshm_backend_options backend = { 0 };
    const hshm_attach_options attach = { 0 };
    const hshm_allocator_options allocator = { 0 };
    assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, 65536, NULL, &backend, NULL), HSHM_E_INVAL);
    assert_sentence("hshm_backend_options.struct_size");
    assert_status(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, "none", &attach, NULL), HSHM_E_INVAL);
    assert_sentence("hshm_attach_options.struct_size");

    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, 65536, NULL, NULL, NULL));
    assert_status(
        hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, &allocator, NULL),
        HSHM_E_INVAL);
    assert_sentence("hshm_allocator_options.struct_size");
    hshm_backend_info_data info = { 0 };
    assert_status(hshm_backend_info(hshm_backend_get(NULL, 1), &info), HSHM_E_INVAL);
    assert_sentence("hshm_backend_info_data.struct_size");
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
the_initializers_are_complete(void **state)
{
    (void)state;
    const hshm_backend_options backend = HSHM_BACKEND_OPTIONS_INIT;
    const hshm_attach_options attach = HSHM_ATTACH_OPTIONS_INIT;
    const hshm_allocator_options allocator = HSHM_ALLOCATOR_OPTIONS_INIT;
    const hshm_stats stats = HSHM_STATS_INIT;
    const hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_int_equal(backend.struct_size, sizeof backend);
    assert_int_equal(attach.struct_size, sizeof attach);
    assert_int_equal(allocator.struct_size, sizeof allocator);
    assert_int_equal(stats.struct_size, sizeof stats);
    assert_int_equal(info.struct_size, sizeof info);
    assert_int_equal(attach.timeout_ms, 0);
    assert_false(attach.read_only || attach.accept_dirty);
}

static void
the_library_tells_the_headers_versions(void **state)
{
    (void)state;
    char expected[64];
    (void)snprintf(expected, sizeof expected, "%d.%d.%d", HSHM_VERSION_MAJOR, HSHM_VERSION_MINOR, HSHM_VERSION_PATCH);
    assert_string_equal(hshm_version(), expected);
    assert_int_equal(hshm_format_version(), 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_thread_has_its_own_last_failure),
        cmocka_unit_test(libraries_on_top_leave_failures_of_their_own),
        cmocka_unit_test(success_leaves_the_last_failure_alone),
        cmocka_unit_test(the_previous_sentence_may_be_part_of_the_next),
        cmocka_unit_test(a_long_sentence_is_cut_and_ends),
        cmocka_unit_test(errno_is_told_in_words_and_number),
        cmocka_unit_test(sizes_are_told_for_people_and_exactly),
        cmocka_unit_test(every_status_has_its_number_name_and_text),
        cmocka_unit_test(the_numbers_never_change),
        cmocka_unit_test(numbers_that_are_no_status_have_a_name_too),
        cmocka_unit_test(structs_may_grow_and_not_shrink),
        cmocka_unit_test(options_without_their_size_are_refused),
        cmocka_unit_test(the_initializers_are_complete),
        cmocka_unit_test(the_library_tells_the_headers_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
