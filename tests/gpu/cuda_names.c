/*
 * cuda_names.c - does a library export every function of gpu_cuda.h?  And is it one for linking only, whose cuInit() says 34?
 */
#include <dlfcn.h>
#include <stdio.h>

#include "backend/gpu_cuda.h"

static const char *const names[] = {
#define NAME(name, needed) #name,
    CUDA_SYMBOLS(NAME)
};

int
main(int argc, char **argv)
{
    int missing = 0;
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (library == NULL) {
        printf("%s\n", dlerror());
        return 1;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (dlsym(library, names[i]) == NULL) {
            printf("%s lacks %s\n", argv[1], names[i]);
            missing++;
        }
    }
    int (*start)(unsigned) = NULL;
    *(void **)(void *)&start = dlsym(library, "cuInit");
    const int code = start == NULL ? -1 : start(0);
    if (code != 34) {
        printf("cuInit of %s said %d, not 34 (CUDA_ERROR_STUB_LIBRARY)\n", argv[1], code);
        return 1;
    }
    return missing != 0;
}
