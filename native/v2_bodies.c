/* Bodies of V2: one tensor of all features, or one for each, with what may stand around them. */
#include "bodies.h"

#include <float.h>
#include <string.h>

enum { MOST_OUTPUTS = 16 };

typedef struct {
    Name name;
    char class; /* f numbers, i integers, b booleans, s texts */
    char single;
    double low, high;
} Datatype;

#define NAME(text) {NULL, text, sizeof(text) - 1}

static const Datatype DATATYPES[] = {
    {NAME("FP64"), 'f', 0, 0, 0},
    {NAME("FP32"), 'f', 1, 0, 0},
    {NAME("BYTES"), 's', 0, 0, 0},
    {NAME("BOOL"), 'b', 0, 0, 0},
    {NAME("INT64"), 'i', 0, -LARGEST_INTEGER, LARGEST_INTEGER},
    {NAME("INT32"), 'i', 0, -2147483648.0, 2147483647.0},
    {NAME("INT16"), 'i', 0, -32768.0, 32767.0},
    {NAME("INT8"), 'i', 0, -128.0, 127.0},
    {NAME("UINT64"), 'i', 0, 0, LARGEST_INTEGER},
    {NAME("UINT32"), 'i', 0, 0, 4294967295.0},
    {NAME("UINT16"), 'i', 0, 0, 65535.0},
    {NAME("UINT8"), 'i', 0, 0, 255.0},
};

/* One element of "inputs". */
typedef struct {
    const Datatype *datatype;
    Piece name, data;
    Py_ssize_t shape[2];
    int dimensions; /* 0 until the shape has been read */
    int named, with_parameters;
    enum { NO_DATA, FOUND, DECODED } state; /* of the data: found before it could be read */
} Tensor;

/* A request in the making. */
typedef struct {
    Decoded *decoded;
    const BodyReader *reader;
    char *seen; /* (features,): which have had their tensor */
    Py_ssize_t tensors, guess, body_size;
    int begun; /* the rows are known */
    int matrix;
    Asked *asked;
} Request;

static int read_element(Request *request, Scan *scan, const Datatype *datatype, Py_ssize_t row,
                        const Feature *feature)
{
    if (scan_ahead(scan, 'n')) {
        return scan_word(scan, "null") ? put_missing(request->decoded, row, feature) : SLOW;
    }
    if (datatype->class == 's') {
        Piece text;
        return scan_text(scan, &text) ? put_text(request->decoded, feature, &text) : SLOW;
    }
    if (datatype->class == 'b') {
        return read_boolean(request->decoded, scan, row, feature);
    }
    Number number;
    const int taken = read_number(scan, &number);
    if (taken != TAKEN) {
        return taken;
    }
    double value = number.value;
    if (datatype->class == 'i' && (!number.whole || value < datatype->low || value > datatype->high)) {
        return SLOW;
    }
    if (datatype->single) {
        if (fabs(value) > (double)FLT_MAX) {
            return SLOW;
        }
        value = (double)(float)value;
    }
    return put_number(request->decoded, row, feature, value);
}

/* rows x width values, flat or as a list for each row. The features are those from `feature` on. */
static int read_data(Request *request, Scan *scan, const Tensor *tensor, const Feature *feature, Py_ssize_t width)
{
    const Py_ssize_t rows = request->decoded->rows;
    if (!scan_character(scan, '[')) {
        return SLOW;
    }
    const int nested = tensor->dimensions == 2 && scan_ahead(scan, '[');
    for (Py_ssize_t row = request->decoded->first; row < rows; row++) {
        if (nested && !scan_character(scan, '[')) {
            return SLOW;
        }
        for (Py_ssize_t i = 0; i < width; i++) {
            const int taken = read_element(request, scan, tensor->datatype, row, feature + i);
            if (taken != TAKEN) {
                return taken;
            }
            const int last = i + 1 == width && (nested || row + 1 == rows);
            if (scan_next(scan, ']') != (last ? 2 : 1)) {
                return SLOW;
            }
        }
        if (nested && scan_next(scan, ']') != (row + 1 == rows ? 2 : 1)) {
            return SLOW;
        }
    }
    return TAKEN;
}

/* Begin the batch with the first tensor's rows; the others must have as many. */
static int begin(Request *request, Py_ssize_t rows)
{
    Decoded *decoded = request->decoded;
    if (request->begun) {
        return rows == decoded->rows - decoded->first ? TAKEN : SLOW;
    }
    /* Every value of every feature takes a byte and a comma of the body. */
    if (rows < 1 || rows > request->body_size / request->reader->feature_count) {
        return SLOW;
    }
    request->begun = 1;
    return decoded_add_rows(decoded, rows);
}

static int fits(const Datatype *datatype, const Feature *features, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        const char kind = features[i].kind == 'i' ? 'f' : features[i].kind;
        if (kind != (datatype->class == 'i' ? 'f' : datatype->class)) {
            return 0;
        }
    }
    return 1;
}

/* See which features a tensor has, and read its data. */
static int decode_tensor(Request *request, Scan *scan, const Tensor *tensor)
{
    const BodyReader *reader = request->reader;
    const Py_ssize_t features = reader->feature_count;
    const Py_ssize_t columns = tensor->dimensions == 2 ? tensor->shape[1] : 1;
    const Py_ssize_t index = find_feature(reader, &tensor->name, request->guess);
    Py_ssize_t first = 0, width = features;
    if (index < 0 || (features > 1 && tensor->dimensions == 2 && columns == features)) {
        request->matrix = 1;
    } else {
        if (request->seen == NULL) {
            request->seen = PyMem_Calloc((size_t)features, 1);
            if (request->seen == NULL) {
                PyErr_NoMemory();
                return FAILED;
            }
        }
        if (request->seen[index]) {
            return SLOW;
        }
        request->seen[index] = 1;
        request->guess = index + 1;
        first = index;
        width = 1;
    }
    if (columns != width || !fits(tensor->datatype, reader->features + first, width)) {
        return SLOW;
    }
    const int begun = begin(request, tensor->shape[0]);
    return begun == TAKEN ? read_data(request, scan, tensor, reader->features + first, width) : begun;
}

static int read_shape(Scan *scan, Tensor *tensor)
{
    int more = 1;
    if (tensor->dimensions || !scan_character(scan, '[')) {
        return 0;
    }
    while (more == 1) {
        Number size;
        if (tensor->dimensions == 2 || !scan_number(scan, &size) || !size.whole || size.value < 1 ||
            size.value > INT32_MAX) {
            return 0;
        }
        tensor->shape[tensor->dimensions++] = (Py_ssize_t)size.value;
        more = scan_next(scan, ']');
    }
    return more == 2;
}

static int read_datatype(Scan *scan, Tensor *tensor)
{
    Piece name;
    if (tensor->datatype != NULL || !scan_string(scan, &name)) {
        return 0;
    }
    for (size_t i = 0; i < sizeof DATATYPES / sizeof DATATYPES[0]; i++) {
        if (name_is(&DATATYPES[i].name, &name)) {
            tensor->datatype = &DATATYPES[i];
            return 1;
        }
    }
    return 0;
}

/* Parameters change nothing, but for those that are the careful way's. */
static int read_parameters(Scan *scan)
{
    static const Name OTHERS[] = {NAME("classification"), NAME("shared_memory_region"), NAME("binary_data_size"),
                                  NAME("binary_data"), NAME("binary_data_output")};
    if (scan_word(scan, "null")) {
        return 1;
    }
    if (!scan_character(scan, '{')) {
        return 0;
    }
    int more = scan_character(scan, '}') ? 2 : 1;
    while (more == 1) {
        Piece key, text;
        Number number;
        if (!scan_string(scan, &key) || !key.ascii || !scan_character(scan, ':')) {
            return 0;
        }
        for (size_t i = 0; i < sizeof OTHERS / sizeof OTHERS[0]; i++) {
            if (name_is(&OTHERS[i], &key)) {
                return 0;
            }
        }
        if (scan_ahead(scan, '"')) {
            if (!scan_string(scan, &text) || !text.ascii) {
                return 0;
            }
        } else if (!scan_word(scan, "true") && !scan_word(scan, "false") &&
                   (!scan_number(scan, &number) || number.hard)) {
            return 0;
        }
        more = scan_next(scan, '}');
    }
    return more == 2;
}

static int read_tensor_field(Request *request, Scan *scan, Tensor *tensor, const Piece *key)
{
    if (name_is(&(Name)NAME("name"), key)) {
        return !tensor->named++ && scan_string(scan, &tensor->name);
    }
    if (name_is(&(Name)NAME("shape"), key)) {
        return read_shape(scan, tensor);
    }
    if (name_is(&(Name)NAME("datatype"), key)) {
        return read_datatype(scan, tensor);
    }
    if (name_is(&(Name)NAME("parameters"), key)) {
        return !tensor->with_parameters++ && read_parameters(scan);
    }
    if (!name_is(&(Name)NAME("data"), key) || tensor->state != NO_DATA) {
        return SLOW;
    }
    if (tensor->named && tensor->dimensions && tensor->datatype != NULL) {
        tensor->state = DECODED;
        return decode_tensor(request, scan, tensor);
    }
    tensor->state = FOUND;
    return scan_array(scan, &tensor->data);
}

static int read_tensor(Request *request, Scan *scan)
{
    Tensor tensor = {0};
    int more = 1;
    if (!scan_character(scan, '{')) {
        return SLOW;
    }
    while (more == 1) {
        Piece key;
        if (!scan_string(scan, &key) || !scan_character(scan, ':')) {
            return SLOW;
        }
        const int taken = read_tensor_field(request, scan, &tensor, &key);
        if (taken != TAKEN) {
            return taken;
        }
        more = scan_next(scan, '}');
    }
    if (more == 0 || !tensor.named || !tensor.dimensions || tensor.datatype == NULL || tensor.state == NO_DATA) {
        return SLOW;
    }
    if (!tensor.name.ascii) {
        PyObject *name = text_object(&tensor.name); /* a name of no feature must be UTF-8 too */
        Py_XDECREF(name);
        if (name == NULL || name == Py_None) {
            return name == NULL ? FAILED : SLOW;
        }
    }
    if (tensor.state == DECODED) {
        return TAKEN;
    }
    Scan data = {tensor.data.start, scan->end};
    const int taken = decode_tensor(request, &data, &tensor);
    return taken != TAKEN || data.at == tensor.data.start + tensor.data.length ? taken : SLOW;
}

static int read_inputs(Request *request, Scan *scan)
{
    int more = 1;
    if (request->tensors || !scan_character(scan, '[')) {
        return SLOW;
    }
    while (more == 1) {
        request->tensors++;
        const int taken = read_tensor(request, scan);
        if (taken != TAKEN) {
            return taken;
        }
        more = scan_next(scan, ']');
    }
    if (more == 0 || request->tensors != (request->matrix ? 1 : request->reader->feature_count)) {
        return SLOW;
    }
    return TAKEN;
}

/* {"name": one of the outputs}: its index, or -1. */
static Py_ssize_t read_output(Request *request, Scan *scan)
{
    Py_ssize_t found = -1;
    int more = 1, with_parameters = 0;
    if (!scan_character(scan, '{')) {
        return -1;
    }
    while (more == 1) {
        Piece key, name;
        if (!scan_string(scan, &key) || !scan_character(scan, ':')) {
            return -1;
        }
        if (name_is(&(Name)NAME("parameters"), &key)) {
            if (with_parameters++ || !read_parameters(scan)) {
                return -1;
            }
        } else if (found >= 0 || !name_is(&(Name)NAME("name"), &key) || !scan_string(scan, &name)) {
            return -1;
        } else {
            do {
                if (++found == request->reader->output_count) {
                    return -1;
                }
            } while (!name_is(&request->reader->outputs[found], &name));
        }
        more = scan_next(scan, '}');
    }
    return more == 2 ? found : -1;
}

static int read_outputs(Request *request, Scan *scan)
{
    Py_ssize_t wanted[MOST_OUTPUTS], count = 0;
    if (scan_word(scan, "null")) {
        return TAKEN;
    }
    if (!scan_character(scan, '[')) {
        return SLOW;
    }
    int more = scan_character(scan, ']') ? 2 : 1;
    while (more == 1) {
        const Py_ssize_t found = count < MOST_OUTPUTS ? read_output(request, scan) : -1;
        for (Py_ssize_t i = 0; i < count; i++) {
            if (wanted[i] == found) {
                return SLOW;
            }
        }
        if (found < 0) {
            return SLOW;
        }
        wanted[count++] = found;
        more = scan_next(scan, ']');
    }
    if (more == 0 || count == 0) {
        return more == 0 ? SLOW : TAKEN;
    }
    PyObject *names = PyTuple_New(count);
    if (names == NULL) {
        return FAILED;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyTuple_SetItem(names, i, Py_NewRef(request->reader->outputs[wanted[i]].object));
    }
    Py_DECREF(request->asked->wanted);
    request->asked->wanted = names;
    return TAKEN;
}

static int read_id(Request *request, Scan *scan)
{
    Piece text;
    if (scan_word(scan, "null")) {
        return TAKEN;
    }
    if (!scan_text(scan, &text)) {
        return SLOW;
    }
    PyObject *id = text_object(&text);
    if (id == NULL || id == Py_None) {
        Py_XDECREF(id);
        return id == NULL ? FAILED : SLOW;
    }
    Py_DECREF(request->asked->id);
    request->asked->id = id;
    return TAKEN;
}

static int read_model_name(Request *request, Scan *scan)
{
    Piece name;
    return scan_word(scan, "null") || (scan_string(scan, &name) && name_is(&request->reader->model, &name));
}

static int read_parameters_field(Request *Py_UNUSED(request), Scan *scan)
{
    return read_parameters(scan);
}

static int read_body(Request *request, Scan *scan)
{
    static const struct {
        Name name;
        int (*read)(Request *, Scan *);
    } FIELDS[] = {{NAME("inputs"), read_inputs},
                  {NAME("outputs"), read_outputs},
                  {NAME("id"), read_id},
                  {NAME("parameters"), read_parameters_field},
                  {NAME("model_name"), read_model_name}};
    enum { COUNT = sizeof FIELDS / sizeof FIELDS[0] };
    char seen[COUNT] = {0};
    int more = 1;
    if (!scan_character(scan, '{')) {
        return SLOW;
    }
    while (more == 1) {
        Piece key;
        size_t field = 0;
        if (!scan_string(scan, &key) || !scan_character(scan, ':')) {
            return SLOW;
        }
        while (field < COUNT && !name_is(&FIELDS[field].name, &key)) {
            field++;
        }
        if (field == COUNT || seen[field]++) {
            return SLOW;
        }
        const int taken = FIELDS[field].read(request, scan);
        if (taken != TAKEN) {
            return taken;
        }
        more = scan_next(scan, '}');
    }
    return more == 2 && request->tensors && scan_finished(scan) ? TAKEN : SLOW;
}

int read_v2_body(Decoded *decoded, const char *text, Py_ssize_t size, Asked *asked)
{
    Scan scan = {text, text + size};
    Request request = {.decoded = decoded, .reader = decoded->reader, .body_size = size, .asked = asked};
    *asked = (Asked){Py_NewRef(Py_None), Py_NewRef(Py_None)};
    const int taken = read_body(&request, &scan);
    PyMem_Free(request.seen);
    return taken;
}
