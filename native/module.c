/* The module solera_native: its functions and types by name. Shapes stand with each function. */
#include "bodies.h"
#include "kernels.h"
#include "trees.h"

#define FUNCTION(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}

static PyMethodDef functions[] = {
    FUNCTION(linear),    FUNCTION(calm),        FUNCTION(two_shares),  FUNCTION(distances),
    FUNCTION(tree_shap), FUNCTION(count_terms), FUNCTION(weigh_terms), FUNCTION(scatter),
    FUNCTION(one_hot),   FUNCTION(category_codes), FUNCTION(scaled_linear), {NULL, NULL, 0, NULL},
};

static int add_type(PyObject *module, const char *name, PyObject *type)
{
    if (type == NULL) {
        return -1;
    }
    const int failed = PyModule_AddObjectRef(module, name, type);
    Py_DECREF(type);
    return failed;
}

static int add_contents(PyObject *module)
{
    if (PyModule_AddIntConstant(module, "INTERFACE", SOLERA_INTERFACE) < 0 ||
        add_type(module, "Trees", trees_type()) < 0) {
        return -1;
    }
    return add_type(module, "BodyReader", body_reader_type()) < 0 ? -1 : add_type(module, "Intake", intake_type());
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, add_contents},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "solera_native",
    .m_doc = "Kernels of solera-server; solera_server.compiled.kernels_numpy has the same in numpy.",
    .m_size = 0,
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit_solera_native(void)
{
    return PyModuleDef_Init(&definition);
}
