/*
 * The type Intake: requests of one turn of the event loop in their plainest form, taken from what arrived into one
 * batch.
 *
 * A head is known by its bytes, which the HTTP parser has read before; nothing of HTTP is parsed here. Only values of
 * headers that say nothing about how to read a request may differ, and must be visible characters. What is not plainly
 * a known head with its whole body, and a body that the body reader takes, is not taken: the parser and the careful way
 * then see the same bytes.
 */
#include "bodies.h"

#include <string.h>

enum {
    MOST_HEADS = 256,
    MOST_CUTS = 8,
    LENGTH_DIGITS = 9,
    LONGEST_REQUEST_ID = 128,
    PROTOCOLS = 2,
    MOST_BODY = 64 * 1024,
    MOST_BYTES = 4 * 1024 * 1024 /* of all requests of a turn */
};

/* Values of a head that may differ. */
enum { ANY = 0, LENGTH = 1, REQUEST_ID = 2, UNIT = 3 };

typedef struct {
    Py_ssize_t start, stop; /* of the value in the head as it was learned */
    int kind;
} Cut;

typedef struct {
    PyObject *raw, *head;  /* bytes; whatever it means to the caller */
    PyObject *request_id; /* of every request with this head, where no value of a cut names it: bytes or None */
    const char *text;
    Py_ssize_t size;
    Cut cuts[MOST_CUTS];
    int cut_count, protocol;
} Known;

/* What a head says of its request, beside what is known of it. */
typedef struct {
    const Known *known;
    const char *body, *request_id, *unit;
    Py_ssize_t body_size, request_id_size, unit_size;
} Arrival;

/* Lists have an item for each request of the turn. */
typedef struct {
    PyObject *owners, *heads, *bytes, *ids, *request_ids, *units, *received, *rows; /* lists */
    PyObject *wanted;                                                               /* of all of them */
    Decoded decoded;
    Py_ssize_t count, size;
    int protocol, with_ids, with_request_ids, with_units;
} Turn;

typedef struct {
    PyObject_HEAD PyObject *readers[PROTOCOLS];
    Known heads[MOST_HEADS];
    int head_count, last_head;
    Py_ssize_t most_body, most_head; /* bytes */
    Py_ssize_t most_rows, most_turn_rows, most_requests;
    int open; /* whether `turn` has been begun */
    Turn turn;
} Intake;

static const ReadBody READ_BODY[PROTOCOLS] = {read_v1_body, read_v2_body};

static void turn_free(Turn *turn)
{
    Py_CLEAR(turn->owners);
    Py_CLEAR(turn->heads);
    Py_CLEAR(turn->bytes);
    Py_CLEAR(turn->ids);
    Py_CLEAR(turn->request_ids);
    Py_CLEAR(turn->units);
    Py_CLEAR(turn->wanted);
    Py_CLEAR(turn->received);
    Py_CLEAR(turn->rows);
    decoded_free(&turn->decoded);
}

static int turn_begin(Intake *intake, int protocol)
{
    Turn *turn = &intake->turn;
    *turn = (Turn){.owners = PyList_New(0),
                   .heads = PyList_New(0),
                   .bytes = PyList_New(0),
                   .ids = PyList_New(0),
                   .request_ids = PyList_New(0),
                   .units = PyList_New(0),
                   .received = PyList_New(0),
                   .rows = PyList_New(0),
                   .protocol = protocol};
    const int opened = decoded_open(&turn->decoded, (const BodyReader *)intake->readers[protocol], 8);
    if (opened != TAKEN || turn->owners == NULL || turn->heads == NULL || turn->bytes == NULL || turn->ids == NULL ||
        turn->request_ids == NULL || turn->units == NULL || turn->received == NULL || turn->rows == NULL) {
        turn_free(turn);
        return FAILED;
    }
    intake->open = 1;
    return TAKEN;
}

static int is_visible(char character)
{
    return character > 0x20 && character < 0x7f;
}

/* A plain number of at most nine digits, or -1. */
static Py_ssize_t read_length(const char *digits, Py_ssize_t count)
{
    Py_ssize_t value = 0;
    if (count < 1 || count > LENGTH_DIGITS || digits[0] == '0') {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (digits[i] < '0' || digits[i] > '9') {
            return -1;
        }
        value = value * 10 + (digits[i] - '0');
    }
    return value;
}

/* [A-Za-z0-9._~+/=:@-]{1,128}, as message.py has it. */
static int is_request_id(const char *text, Py_ssize_t size)
{
    if (size > LONGEST_REQUEST_ID) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        const char c = text[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '-' && c <= ':') || c == '=' || c == '@' ||
              c == '_' || c == '~' || c == '+')) {
            return 0;
        }
    }
    return 1;
}

/* Where the head ends if the bytes begin with the known one, but for its cuts; -1 where they do not. */
static Py_ssize_t match_head(const Known *known, const char *text, Py_ssize_t size, Arrival *arrival)
{
    Py_ssize_t at = 0, before = 0;
    *arrival = (Arrival){.known = known, .body_size = -1};
    for (int i = 0; i < known->cut_count; i++) {
        const Cut *cut = &known->cuts[i];
        const Py_ssize_t same = cut->start - before;
        if (size - at < same || memcmp(text + at, known->text + before, (size_t)same) != 0) {
            return -1;
        }
        at += same;
        const Py_ssize_t start = at;
        while (at < size && is_visible(text[at])) {
            at++;
        }
        if (at == start) {
            return -1;
        }
        if (cut->kind == LENGTH) {
            arrival->body_size = read_length(text + start, at - start);
        } else if (cut->kind == REQUEST_ID && is_request_id(text + start, at - start)) {
            arrival->request_id = text + start;
            arrival->request_id_size = at - start;
        } else if (cut->kind == UNIT) {
            arrival->unit = text + start;
            arrival->unit_size = at - start;
        }
        before = cut->stop;
    }
    const Py_ssize_t same = known->size - before;
    if (size - at < same || memcmp(text + at, known->text + before, (size_t)same) != 0) {
        return -1;
    }
    return at + same;
}

/* Find the head with which the bytes begin: its end, or -1. */
static Py_ssize_t find_head(Intake *intake, const char *text, Py_ssize_t size, Arrival *arrival)
{
    Py_ssize_t end = -1;
    if (intake->head_count) {
        end = match_head(&intake->heads[intake->last_head], text, size, arrival);
    }
    for (int i = 0; end < 0 && i < intake->head_count; i++) {
        end = match_head(&intake->heads[i], text, size, arrival);
        if (end >= 0) {
            intake->last_head = i;
        }
    }
    return end;
}

/* Whether the bytes are a known head and a body to their very end, neither larger than may be. */
static int find(Intake *intake, const char *text, Py_ssize_t size, Arrival *arrival)
{
    const Py_ssize_t end = find_head(intake, text, size, arrival);
    if (end < 0 || end > intake->most_head || arrival->body_size != size - end ||
        arrival->body_size > intake->most_body) {
        return 0;
    }
    arrival->body = text + end;
    return 1;
}

static int append(PyObject *list, PyObject *item)
{
    return item != NULL && PyList_Append(list, item) == 0 ? TAKEN : FAILED;
}

/* Add the request whose rows have just been read. */
static int add(Turn *turn, const Arrival *arrival, const Asked *asked, PyObject *bytes, PyObject *received,
               PyObject *owner)
{
    PyObject *rows = PyLong_FromSsize_t(turn->decoded.rows - turn->decoded.first);
    PyObject *request_id = arrival->request_id == NULL
                               ? Py_NewRef(arrival->known->request_id)
                               : PyBytes_FromStringAndSize(arrival->request_id, arrival->request_id_size);
    PyObject *unit =
        arrival->unit == NULL ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(arrival->unit, arrival->unit_size);
    const int added = append(turn->request_ids, request_id) == TAKEN && append(turn->units, unit) == TAKEN &&
                      append(turn->ids, asked->id) == TAKEN &&
                      append(turn->bytes, bytes) == TAKEN && append(turn->heads, arrival->known->head) == TAKEN &&
                      append(turn->received, received) == TAKEN && append(turn->rows, rows) == TAKEN &&
                      append(turn->owners, owner) == TAKEN;
    turn->with_request_ids |= request_id != Py_None;
    Py_XDECREF(rows);
    Py_XDECREF(request_id);
    Py_XDECREF(unit);
    if (!added) {
        return FAILED;
    }
    turn->with_ids |= asked->id != Py_None;
    turn->with_units |= arrival->unit != NULL;
    turn->decoded.first = turn->decoded.rows;
    turn->count++;
    return TAKEN;
}

/* Read the body into the turn's batch; a turn has requests of one protocol that want the same. */
static int read_into(Intake *intake, const Arrival *arrival, PyObject *bytes, PyObject *received, PyObject *owner)
{
    Turn *turn = &intake->turn;
    Asked asked = {NULL, NULL};
    Decoded *decoded = &turn->decoded;
    const Py_ssize_t room = intake->most_turn_rows - decoded->rows, most = decoded->reader->most_rows;
    decoded->most_rows = room < intake->most_rows ? room : intake->most_rows;
    decoded->most_rows = decoded->most_rows < most ? decoded->most_rows : most;
    int taken = READ_BODY[turn->protocol](decoded, arrival->body, arrival->body_size, &asked);
    if (taken == TAKEN && turn->count) {
        const int same = PyObject_RichCompareBool(asked.wanted, turn->wanted, Py_EQ);
        taken = same < 0 ? FAILED : same ? TAKEN : SLOW;
    }
    if (taken == TAKEN) {
        if (!turn->count) {
            Py_XDECREF(turn->wanted);
            turn->wanted = Py_NewRef(asked.wanted);
        }
        taken = add(turn, arrival, &asked, bytes, received, owner);
    }
    asked_free(&asked);
    return taken;
}

/* Cut what an addition that failed has left longer than the rest. */
static int trim(Turn *turn)
{
    PyObject *lists[] = {turn->owners,      turn->heads, turn->bytes,    turn->ids,
                         turn->request_ids, turn->units, turn->received, turn->rows};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (PyList_SetSlice(lists[i], turn->count, PY_SSIZE_T_MAX, NULL) < 0) {
            return FAILED;
        }
    }
    return decoded_undo(&turn->decoded);
}

/* take(bytes, received, owner) -> 0 where it is not for us, 2 for the first request of a turn, 1 for another */
static PyObject *take(PyObject *self, PyObject *const *arguments, Py_ssize_t given)
{
    Intake *intake = (Intake *)self;
    Arrival arrival;
    if (arguments_check("take", given, 3) < 0) {
        return NULL;
    }
    PyObject *bytes = arguments[0], *received = arguments[1], *owner = arguments[2];
    Turn *turn = &intake->turn;
    const Py_ssize_t count = intake->open ? turn->count : 0;
    if (count >= intake->most_requests || !PyBytes_Check(bytes)) {
        return PyLong_FromLong(0);
    }
    const Py_ssize_t size = PyBytes_Size(bytes);
    if (!find(intake, PyBytes_AsString(bytes), size, &arrival)) {
        return PyLong_FromLong(0);
    }
    if (!intake->open && turn_begin(intake, arrival.known->protocol) != TAKEN) {
        return NULL;
    }
    if (count == 0) {
        turn->protocol = arrival.known->protocol;
        turn->decoded.reader = (const BodyReader *)intake->readers[turn->protocol];
    } else if (turn->protocol != arrival.known->protocol || turn->size + size > MOST_BYTES ||
               turn->decoded.rows >= intake->most_turn_rows) {
        return PyLong_FromLong(0);
    }
    const int taken = read_into(intake, &arrival, bytes, received, owner);
    if (taken == TAKEN) {
        turn->size += size;
        return PyLong_FromLong(count == 0 ? 2 : 1);
    }
    if (taken == FAILED) {
        /* Whoever reads the request next fails too, or does not; what was taken before stays. */
        PyErr_Clear();
    }
    if ((taken == FAILED ? trim(turn) : decoded_undo(&turn->decoded)) != TAKEN) {
        return NULL;
    }
    return PyLong_FromLong(0);
}

/* finish() -> (protocol: 0 V1, 1 V2; wanted; owners, heads, bytes: lists; ids, request_ids, units: lists, or None where
 * nobody has one; received, rows: lists; rows in all; numbers: bytearray; texts), or None where nothing was taken. Begins
 * anew, unless it fails: see abandon. */
static PyObject *finish(PyObject *self, PyObject *Py_UNUSED(nothing))
{
    Intake *intake = (Intake *)self;
    if (!intake->open || intake->turn.count == 0) {
        return Py_NewRef(Py_None);
    }
    Turn *turn = &intake->turn;
    Decoded *decoded = &turn->decoded;
    if (decoded_close(decoded) != TAKEN) {
        return NULL;
    }
    PyObject *ids = turn->with_ids ? turn->ids : Py_None, *units = turn->with_units ? turn->units : Py_None;
    PyObject *request_ids = turn->with_request_ids ? turn->request_ids : Py_None;
    PyObject *result = Py_BuildValue("iOOOOOOOOOnOO", turn->protocol, turn->wanted, turn->owners, turn->heads,
                                     turn->bytes, ids, request_ids, units, turn->received, turn->rows, decoded->rows,
                                     decoded->numbers, decoded->texts);
    if (result != NULL) {
        Turn done = *turn;
        intake->open = 0;
        *turn = (Turn){0};
        turn_free(&done);
    }
    return result;
}

/* abandon() -> the owners of a turn that could not be finished. Begins anew. */
static PyObject *abandon(PyObject *self, PyObject *Py_UNUSED(nothing))
{
    Intake *intake = (Intake *)self;
    if (!intake->open) {
        return PyList_New(0);
    }
    Turn turn = intake->turn;
    PyObject *owners = Py_NewRef(turn.owners);
    intake->open = 0;
    intake->turn = (Turn){0};
    turn_free(&turn);
    return owners;
}

/* limit(rows of a request, rows of a turn, requests of a turn) */
static PyObject *limit(PyObject *self, PyObject *arguments)
{
    Intake *intake = (Intake *)self;
    if (!PyArg_ParseTuple(arguments, "nnn", &intake->most_rows, &intake->most_turn_rows, &intake->most_requests)) {
        return NULL;
    }
    return Py_NewRef(Py_None);
}

static void known_free(Known *known)
{
    Py_CLEAR(known->raw);
    Py_CLEAR(known->head);
    Py_CLEAR(known->request_id);
}

/* Take the cuts of a head from a tuple of (start, stop, kind), in order and apart. */
static int read_cuts(Known *known, PyObject *cuts)
{
    const Py_ssize_t count = PyTuple_Size(cuts);
    Py_ssize_t end = 0;
    int lengths = 0;
    if (count < 0 || count > MOST_CUTS) {
        PyErr_SetString(PyExc_ValueError, "too many cuts");
        return FAILED;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        Cut *cut = &known->cuts[i];
        if (!PyArg_ParseTuple(PyTuple_GetItem(cuts, i), "nni", &cut->start, &cut->stop, &cut->kind)) {
            return FAILED;
        }
        if (cut->start < end || cut->stop <= cut->start || cut->stop >= known->size) {
            PyErr_SetString(PyExc_ValueError, "cuts must be within the head, in order, and apart");
            return FAILED;
        }
        end = cut->stop;
        lengths += cut->kind == LENGTH;
    }
    if (lengths != 1) {
        PyErr_SetString(PyExc_ValueError, "a head must have one length");
        return FAILED;
    }
    known->cut_count = (int)count;
    return TAKEN;
}

static void forget(Intake *intake)
{
    const int count = intake->head_count;
    intake->head_count = intake->last_head = 0;
    for (int i = 0; i < count; i++) {
        Known old = intake->heads[i];
        intake->heads[i] = (Known){0};
        known_free(&old);
    }
}

/* learn(raw: bytes, cuts: tuple of (start, stop, kind), head, request_id: bytes or None, protocol): know a head from
 * now on -> whether all others had to be forgotten for it. */
static PyObject *learn(PyObject *self, PyObject *arguments)
{
    Intake *intake = (Intake *)self;
    PyObject *raw, *cuts, *head, *request_id;
    Known known = {0};
    if (!PyArg_ParseTuple(arguments, "SO!OOi", &raw, &PyTuple_Type, &cuts, &head, &request_id, &known.protocol)) {
        return NULL;
    }
    known.text = PyBytes_AsString(raw);
    known.size = PyBytes_Size(raw);
    if (known.protocol < 0 || known.protocol >= PROTOCOLS) {
        PyErr_SetString(PyExc_ValueError, "there is no such protocol");
        return NULL;
    }
    if (read_cuts(&known, cuts) != TAKEN) {
        return NULL;
    }
    Arrival arrival;
    if (find_head(intake, known.text, known.size, &arrival) == known.size) {
        return Py_NewRef(Py_False); /* it is known, with other values */
    }
    const int full = intake->head_count == MOST_HEADS;
    if (full) {
        forget(intake);
    }
    known.raw = Py_NewRef(raw);
    known.head = Py_NewRef(head);
    known.request_id = Py_NewRef(request_id);
    intake->heads[intake->head_count++] = known;
    return PyBool_FromLong(full);
}

/* Intake(v1: BodyReader, v2: BodyReader, most_body: int, most_head: int): the readers have the same features; bodies and
 * heads have at most so many bytes. */
static PyObject *intake_new(PyTypeObject *type, PyObject *arguments, PyObject *Py_UNUSED(keywords))
{
    PyObject *readers[PROTOCOLS];
    Py_ssize_t most_body, most_head;
    if (!PyArg_ParseTuple(arguments, "OOnn", &readers[0], &readers[1], &most_body, &most_head)) {
        return NULL;
    }
    const BodyReader *v1 = (const BodyReader *)readers[0], *v2 = (const BodyReader *)readers[1];
    if (!is_body_reader(readers[0]) || !is_body_reader(readers[1]) || v1->number_count != v2->number_count ||
        v1->text_count != v2->text_count) {
        PyErr_SetString(PyExc_ValueError, "two readers of the same features are needed");
        return NULL;
    }
    PyObject *self = ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0); /* zeroed: takes nothing yet */
    if (self != NULL) {
        Intake *intake = (Intake *)self;
        intake->readers[0] = Py_NewRef(readers[0]);
        intake->readers[1] = Py_NewRef(readers[1]);
        intake->most_body = most_body < MOST_BODY ? most_body : MOST_BODY;
        intake->most_head = most_head;
    }
    return self;
}

/* Connections, heads and the server behind them refer to each other: the collector must see through this object. */
static int intake_traverse(PyObject *self, visitproc visit, void *arg)
{
    const Intake *intake = (const Intake *)self;
    for (int i = 0; i < intake->head_count; i++) {
        Py_VISIT(intake->heads[i].head);
    }
    Py_VISIT(intake->turn.owners);
    Py_VISIT(intake->turn.heads);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int intake_clear(PyObject *self)
{
    Intake *intake = (Intake *)self;
    intake->open = 0;
    turn_free(&intake->turn);
    forget(intake);
    return 0;
}

static void intake_free(PyObject *self)
{
    Intake *intake = (Intake *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)intake_clear(self);
    Py_XDECREF(intake->readers[0]);
    Py_XDECREF(intake->readers[1]);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static Py_ssize_t intake_length(PyObject *self)
{
    const Intake *intake = (const Intake *)self;
    return intake->open ? intake->turn.count : 0;
}

static PyMethodDef methods[] = {
    {"take", (PyCFunction)(void (*)(void))take, METH_FASTCALL, NULL},
    {"finish", finish, METH_NOARGS, NULL},
    {"abandon", abandon, METH_NOARGS, NULL},
    {"limit", limit, METH_VARARGS, NULL},
    {"learn", learn, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_new, intake_new},
    {Py_tp_dealloc, intake_free},
    {Py_tp_traverse, intake_traverse},
    {Py_tp_clear, intake_clear},
    {Py_tp_methods, methods},
    {Py_sq_length, intake_length},
    {0, NULL},
};

static PyType_Spec type_spec = {
    .name = "solera_native.Intake",
    .basicsize = sizeof(Intake),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = type_slots,
};

PyObject *intake_type(void)
{
    return PyType_FromSpec(&type_spec);
}
