/*
 * fields.h - where the fields of a struct lie, as the compiler has them and as the format has them.
 */
#ifndef HSHM_TESTS_FIELDS_H
#define HSHM_TESTS_FIELDS_H

#include "support.h"

struct field {
    const char *name;
    size_t off, size;               /* as the compiler has them */
    size_t wanted_off, wanted_size; /* as the format has them   */
};

#define FIELD(type, member, wanted_off, wanted_size)                                                               \
    {                                                                                                              \
#member, offsetof(struct type, member), sizeof(((struct type *)NULL)->member), (wanted_off), (wanted_size) \
    }

/* Every byte of the struct belongs to one field, and each field lies where the format has it. */
static inline void
assert_layout(const char *type, size_t type_size, const struct field *fields, size_t count, size_t wanted_size)
{
    size_t end = 0;
    for (size_t i = 0; i < count; i++) {
        const struct field *field = &fields[i];
        if (field->off != field->wanted_off || field->size != field->wanted_size)
            fail_msg("%s.%s lies at %zu with %zu bytes, not at %zu with %zu", type, field->name, field->off,
                     field->size, field->wanted_off, field->wanted_size);
        assert_int_equal(field->wanted_off, end);
        end += field->wanted_size;
    }
    assert_int_equal(end, wanted_size);
    assert_int_equal(type_size, wanted_size);
}

#endif
