/*
 * names.c - a heap's names: a table of fixed size in its control data, searched from a place that the name tells.
 *
 * An entry was NEVER used, is LIVE, or GONE, in which case it may be used again; a search ends at the first that was NEVER used.
 *
 * Who changes names holds a lock, a word that names the process.  Each change is one store to an entry's `state`, when all else
 * of it is written.  So the repair rule is: the holder died here, and its entry is LIVE or is not; what else it wrote means
 * nothing; let the lock go.
 *
 * Who reads holds nothing: an entry was the same all the time if its state was, which counts its changes.
 */
#include "allocator/names.h"

#include <string.h>

#include "allocator/allocator.h"
#include "allocator/lifetime.h"
#include "allocator/user_slot.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/failpoint.h"

enum { READS_MAX = 1000 };

/* A name as entries have it. */
struct spelled {
    uint64_t words[NAME_WORDS];
    uint64_t hash;
};

struct found {
    struct name_entry *entry; /* NULL: there is none                                   */
    uint64_t state;           /* its, when it was looked at                            */
    struct name_entry *room;  /* where it would be made; NULL: no room                 */
};

bool
names_have_slot(const hshm_allocator *a, uint64_t off)
{
    const uint64_t inside = off - hshm_to_off(a, a->names);
    return a->name_count != 0 && inside / sizeof *a->names < a->name_count &&
           inside % sizeof *a->names == offsetof(struct name_entry, slot);
}

/* ---- spelling ---- */

static hshm_status
spell(const char *call, const char *name, struct spelled *ret_spelled)
{
    const size_t length = name == NULL ? 0 : strnlen(name, NAME_BYTES_MAX + 1);
    if (length == 0 || length > NAME_BYTES_MAX)
        return fail(HSHM_E_INVAL, "%s: a name has 1 to %d bytes, and this one %s", call, (int)NAME_BYTES_MAX,
                    name == NULL  ? "is NULL"
                    : length == 0 ? "is empty"
                                  : "is longer");
    *ret_spelled = (struct spelled){ { 0 }, 0 };
    memcpy(ret_spelled->words, name, length);
    for (size_t i = 0; i < NAME_WORDS; i++) /* Knuth's multiplicative hashing, word by word */
        ret_spelled->hash = (ret_spelled->hash ^ ret_spelled->words[i]) * UINT64_C(0x9e3779b97f4a7c15);
    return HSHM_OK;
}

static enum name_state
state_of(uint64_t state)
{
    return (enum name_state)(state & ((1u << NAME_STATE_BITS) - 1));
}

static uint64_t
next_state(uint64_t state, enum name_state what)
{
    return ((state >> NAME_STATE_BITS) + 1) << NAME_STATE_BITS | what;
}

static bool
has_name(const struct name_entry *entry, const struct spelled *spelled)
{
    for (size_t i = 0; i < NAME_WORDS; i++) {
        /* Acquire: if it is of a later name, the state that is asked for afterwards is a later one too. */
        if (load_acquire(&entry->name[i]) != spelled->words[i])
            return false;
        if (spelled->words[i] == 0) /* and all behind it */
            return true;
    }
    return true;
}

static struct found
find(const hshm_allocator *a, const struct spelled *spelled)
{
    struct found found = { NULL, 0, NULL };
    for (uint32_t i = 0; i < a->name_count; i++) {
        struct name_entry *entry = &a->names[((spelled->hash >> 32) + i) % a->name_count];
        found.state = load_acquire(&entry->state);
        const enum name_state state = state_of(found.state);
        if (state == NAME_LIVE && has_name(entry, spelled)) {
            found.entry = entry;
            return found;
        }
        if (state != NAME_LIVE && found.room == NULL)
            found.room = entry;
        if (state == NAME_NEVER)
            break;
    }
    return found;
}

/* ---- one who changes names at a time ---- */

static uint64_t
lock_word(uint32_t process)
{
    return 1 | (uint64_t)process << OP_OWNER_SHIFT;
}

static bool
try_lock(hshm_allocator *a, void *arg)
{
    uint64_t nobody = 0;
    (void)arg;
    return cas_seq_cst(&a->op_table->names_lock, &nobody, lock_word(a->process));
}

static hshm_status
lock_names(hshm_allocator *a, const char *call)
{
    if (LIKELY(op_try_for_long(a, try_lock, NULL))) {
        FAILPOINT("names.locked");
        return HSHM_OK;
    }
    return fail(
        HSHM_E_BUSY,
        "%s: a live process has been changing the names of heap %u.%u for more than a second (stopped?); try again",
        call, a->id.major, a->id.minor);
}

static void
unlock_names(hshm_allocator *a)
{
    store_release(&a->op_table->names_lock, 0);
}

void
names_unlock_of(hshm_allocator *a, uint32_t process)
{
    uint64_t dead = lock_word(process);
    if (a->name_count != 0)
        (void)cas_seq_cst(&a->op_table->names_lock, &dead, 0);
}

/* ---- the calls ---- */

static hshm_status
look_up(hshm_allocator *a, const char *call, const char *name, struct spelled *ret_spelled)
{
    if (a->name_count == 0)
        return fail(HSHM_E_NOTSUP,
                    "%s: the heap %u.%u has no names: it is a MALLOC heap, or its region is smaller than 64 KiB", call,
                    a->id.major, a->id.minor);
    return spell(call, name, ret_spelled);
}

/* Look a name up, and let nobody else change names until unlock_names(). */
static hshm_status
hold(hshm_allocator *a, const char *call, const char *name, struct spelled *ret_spelled, struct found *ret_found)
{
    hshm_status status = look_up(a, call, name, ret_spelled);
    if (status == HSHM_OK && a->refuses)
        status = a->ops.free(a, NULL);
    if (status == HSHM_OK)
        status = lock_names(a, call);
    if (status == HSHM_OK)
        *ret_found = find(a, ret_spelled);
    return status;
}

/* The name is new: the last store makes it. */
static hshm_status
make(hshm_allocator *a, const char *call, const char *name, const struct spelled *spelled, struct name_entry *room,
     uint64_t slot)
{
    if (room == NULL)
        return fail(HSHM_E_LIMIT,
                    "%s: no room for \"%s\": the heap %u.%u has %u names already; remove some, or use a larger region",
                    call, name, a->id.major, a->id.minor, a->name_count);
    /* Release: who reads one of these sees that the entry is not the old one any more. */
    for (size_t i = 0; i < NAME_WORDS; i++)
        store_release(&room->name[i], spelled->words[i]);
    store_release(&room->slot, slot);
    FAILPOINT("names.written");
    store_release(&room->state, next_state(load_relaxed(&room->state), NAME_LIVE));
    FAILPOINT("names.made");
    return HSHM_OK;
}

/* Nobody is changing the slot; who died changing it is cleaned up after first. */
static hshm_status
settle(hshm_allocator *a, const char *call, const char *name, const struct name_entry *entry)
{
    if (user_slot_state(load_acquire(&entry->slot)) > USER_SLOT_FULL)
        op_recover_dead(a);
    if (user_slot_state(load_acquire(&entry->slot)) <= USER_SLOT_FULL)
        return HSHM_OK;
    return fail(HSHM_E_BUSY, "%s: another thread or process is just changing the slot of \"%s\"; try again", call,
                name);
}

/* The name is there: its slot is filled, if it is empty. */
static hshm_status
fill(hshm_allocator *a, const char *call, const char *name, struct name_entry *entry, uint64_t slot)
{
    uint64_t empty = USER_SLOT_EMPTY;
    const hshm_status status = settle(a, call, name, entry);
    if (status != HSHM_OK || cas_seq_cst(&entry->slot, &empty, slot))
        return status;
    return fail(HSHM_E_EXISTS, "%s: \"%s\" holds a block already; remove the name, or free or move its block, first",
                call, name);
}

static hshm_status
no_such_name(const hshm_allocator *a, const char *call, const char *name)
{
    return fail(HSHM_E_NOTFOUND, "%s: the heap %u.%u has no name \"%s\"", call, a->id.major, a->id.minor, name);
}

hshm_status
hshm_name_set(hshm_allocator *a, const char *name, void *block)
{
    static const char call[] = "hshm_name_set";
    struct spelled spelled = { { 0 }, 0 };
    struct found found;
    if (a->name_count != 0 && !a->refuses && a->ops.usable_size(a, block) == 0)
        return fail(HSHM_E_INVAL, "%s: %p is no live block of the heap %u.%u", call, block, a->id.major, a->id.minor);
    if (a->name_count != 0 && lifetime_has_block(a, block))
        return fail(HSHM_E_INVAL, "%s: %p ends with its process, and names with the heap", call, block);
    hshm_status status = hold(a, call, name, &spelled, &found);
    if (status != HSHM_OK)
        return status;
    const uint64_t slot = user_slot_make(USER_SLOT_FULL, 0, hshm_to_off(a, block));
    status =
        found.entry != NULL ? fill(a, call, name, found.entry, slot) : make(a, call, name, &spelled, found.room, slot);
    unlock_names(a);
    return status;
}

hshm_status
hshm_name_slot(hshm_allocator *a, const char *name, hshm_slot **ret_slot)
{
    static const char call[] = "hshm_name_slot";
    struct spelled spelled = { { 0 }, 0 };
    if (ret_slot == NULL)
        return fail(HSHM_E_INVAL, "%s: ret_slot is NULL", call);
    hshm_status status = look_up(a, call, name, &spelled);
    if (status != HSHM_OK)
        return status;
    struct found found = find(a, &spelled);
    /* The same all the time?  Else it may be one that is only being written. */
    if (found.entry == NULL || load_acquire(&found.entry->state) != found.state) {
        status = hold(a, call, name, &spelled, &found);
        if (status != HSHM_OK)
            return status;
        if (found.entry == NULL)
            status = make(a, call, name, &spelled, found.entry = found.room, USER_SLOT_EMPTY);
        unlock_names(a);
    }
    if (status == HSHM_OK)
        *ret_slot = (hshm_slot *)(void *)&found.entry->slot;
    return status;
}

hshm_status
hshm_name_get(hshm_allocator *a, const char *name, void **ret_block)
{
    static const char call[] = "hshm_name_get";
    struct spelled spelled = { { 0 }, 0 };
    if (ret_block == NULL)
        return fail(HSHM_E_INVAL, "%s: ret_block is NULL", call);
    const hshm_status status = look_up(a, call, name, &spelled);
    if (status != HSHM_OK)
        return status;
    for (int reads = 0; reads < READS_MAX; reads++) {
        const struct found found = find(a, &spelled);
        if (found.entry == NULL)
            return no_such_name(a, call, name);
        const uint64_t word = load_acquire(&found.entry->slot);
        if (load_acquire(&found.entry->state) != found.state)
            continue;
        void *block = hshm_to_addr(a, user_slot_off(word));
        if (user_slot_state(word) != USER_SLOT_FULL || a->ops.usable_size(a, block) == 0)
            return fail(HSHM_E_NOTFOUND, "%s: \"%s\" holds no live block%s", call, name,
                        user_slot_state(word) == USER_SLOT_FULL ? "; it was freed, and the name was left behind" : "");
        *ret_block = block;
        return HSHM_OK;
    }
    return fail(HSHM_E_BUSY, "%s: \"%s\" is removed and made again all the time; try again", call, name);
}

/* Does its slot hold that block? */
static bool
holds(const hshm_allocator *a, const struct name_entry *entry, const void *block)
{
    const uint64_t word = load_acquire(&entry->slot);
    return user_slot_state(word) == USER_SLOT_FULL && hshm_to_addr(a, user_slot_off(word)) == block;
}

/* Forget a name; if `block` is not NULL, only one that holds it. */
static hshm_status
forget(hshm_allocator *a, const char *call, const char *name, const void *block)
{
    struct spelled spelled = { { 0 }, 0 };
    struct found found;
    hshm_status status = hold(a, call, name, &spelled, &found);
    if (status != HSHM_OK)
        return status;
    status = found.entry == NULL ? no_such_name(a, call, name) : settle(a, call, name, found.entry);
    if (status == HSHM_OK && block != NULL && !holds(a, found.entry, block))
        status = fail(HSHM_E_NOTFOUND, "%s: \"%s\" does not hold %p", call, name, block);
    if (status == HSHM_OK)
        store_release(&found.entry->state, next_state(found.state, NAME_GONE));
    FAILPOINT("names.gone");
    unlock_names(a);
    return status;
}

hshm_status
hshm_name_remove(hshm_allocator *a, const char *name)
{
    return forget(a, "hshm_name_remove", name, NULL);
}

hshm_status
hshm_name_take(hshm_allocator *a, const char *name, void *block)
{
    static const char call[] = "hshm_name_take";
    if (block == NULL)
        return fail(HSHM_E_INVAL, "%s: block is NULL", call);
    return forget(a, call, name, block);
}

/* A copy of a live entry.  False: it is none, or changed meanwhile. */
static bool
read_entry(const struct name_entry *entry, char *ret_name, uint64_t *ret_slot)
{
    const uint64_t state = load_acquire(&entry->state);
    uint64_t words[NAME_WORDS];
    if (state_of(state) != NAME_LIVE)
        return false;
    for (size_t i = 0; i < NAME_WORDS; i++)
        words[i] = load_acquire(&entry->name[i]);
    *ret_slot = load_acquire(&entry->slot);
    memcpy(ret_name, words, sizeof words);
    ret_name[NAME_BYTES_MAX] = '\0'; /* from a region: may say anything */
    return load_acquire(&entry->state) == state;
}

hshm_status
hshm_name_visit(hshm_allocator *a, hshm_name_visit_fn fn, void *arg)
{
    static const char call[] = "hshm_name_visit";
    struct spelled any;
    if (fn == NULL)
        return fail(HSHM_E_INVAL, "%s: fn is NULL", call);
    const hshm_status status = look_up(a, call, call, &any);
    for (uint32_t i = 0; status == HSHM_OK && i < a->name_count; i++) {
        char name[NAME_BYTES_MAX + 1];
        uint64_t word;
        if (!read_entry(&a->names[i], name, &word))
            continue;
        void *block = user_slot_state(word) == USER_SLOT_FULL ? hshm_to_addr(a, user_slot_off(word)) : NULL;
        if (fn(name, block != NULL && a->ops.usable_size(a, block) != 0 ? block : NULL, arg) != 0)
            break;
    }
    return status;
}
