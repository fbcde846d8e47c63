/* A custom operator of ONNX Runtime that dereferences a null pointer, for tests of isolation.

   The runtime's interface is a table of functions whose order never changes, and a struct whose
   first fields never do; both are used here without its header, which wheels do not bring. */

#include <stddef.h>
#include <stdint.h>

typedef void *(*create_domain)(const char *, void **);
typedef void *(*add)(void *, const void *);

enum { CREATE_CUSTOM_OP_DOMAIN = 26, CUSTOM_OP_DOMAIN_ADD = 27, ADD_CUSTOM_OP_DOMAIN = 28 };
enum { FLOAT = 1 };

struct api_base {
    const void *const *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
};

struct operator {
    uint32_t version;
    void *(*create_kernel)(const struct operator *, const void *, const void *);
    const char *(*get_name)(const struct operator *);
    const char *(*get_provider)(const struct operator *);
    int (*get_input_type)(const struct operator *, size_t);
    size_t (*get_input_count)(const struct operator *);
    int (*get_output_type)(const struct operator *, size_t);
    size_t (*get_output_count)(const struct operator *);
    void (*compute)(void *, void *);
    void (*destroy)(void *);
    int (*get_input_characteristic)(const struct operator *, size_t);
    int (*get_output_characteristic)(const struct operator *, size_t);
    void *later[14]; /* functions of later versions, which are not asked for */
};

static void *create(const struct operator *op, const void *api, const void *info)
{
    (void)op; (void)api; (void)info;
    return (void *)1;
}
static const char *name(const struct operator *op) { (void)op; return "Crash"; }
static const char *provider(const struct operator *op) { (void)op; return NULL; }
static int type(const struct operator *op, size_t index) { (void)op; (void)index; return FLOAT; }
static int required(const struct operator *op, size_t index) { (void)op; (void)index; return 0; }
static size_t one(const struct operator *op) { (void)op; return 1; }
static void destroy(void *kernel) { (void)kernel; }

static void compute(void *kernel, void *context)
{
    (void)kernel; (void)context;
    *(volatile int *)NULL = 1;
}

static const struct operator crash = {
    8, create, name, provider, type, one, type, one, compute, destroy, required, required, {NULL},
};

void *RegisterCustomOps(void *options, const struct api_base *base)
{
    const void *const *api = base->get_api(8);
    void *domain = NULL, *status;
    status = ((create_domain)api[CREATE_CUSTOM_OP_DOMAIN])("test.crash", &domain);
    if (status == NULL) status = ((add)api[CUSTOM_OP_DOMAIN_ADD])(domain, &crash);
    if (status == NULL) status = ((add)api[ADD_CUSTOM_OP_DOMAIN])(options, domain);
    return status;
}
