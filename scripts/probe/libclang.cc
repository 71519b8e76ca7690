// Loads the libclang that bindgen would take and reads a C header with it, as RocksDB's build does: a file's name proves nothing.
// Arguments: `-a ARG` is passed on to libclang, the rest are candidates in the order in which clang-sys finds them. Exit status 0 and
// the library's path, or 1 and why not. Compiling it proves the C++ compiler and its headers.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <string>
#include <vector>

// clang-sys 1.9.1, `parse_version`: what it cannot read counts as 0.
static std::vector<uint32_t> version(const std::string &path) {
    std::string name = path.substr(path.rfind('/') + 1), text;
    if (name.rfind("libclang.so.", 0) == 0)
        text = name.substr(12);
    else if (name.rfind("libclang-", 0) == 0)
        text = name.substr(9, name.size() - 12);
    else
        return {};
    std::vector<uint32_t> parts;
    for (size_t at = 0; at <= text.size();) {
        size_t dot = std::min(text.find('.', at), text.size());
        std::string part = text.substr(at, dot - at);
        bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
        parts.push_back(number ? static_cast<uint32_t>(std::strtoul(part.c_str(), nullptr, 10)) : 0);
        at = dot + 1;
    }
    return parts;
}

static bool elf_of_this_width(const std::string &path) {
    unsigned char head[5] = {0};
    FILE *file = std::fopen(path.c_str(), "rb");
    if (!file) return false;
    size_t got = std::fread(head, 1, sizeof head, file);
    std::fclose(file);
    return got == sizeof head && std::memcmp(head, "\177ELF", 4) == 0 && head[4] == sizeof(void *) / 4;
}

template <typename F> static F symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (!found) {
        std::printf("it has no %s\n", name);
        std::exit(1);
    }
    return reinterpret_cast<F>(found);
}

struct Unsaved {
    const char *name, *text;
    unsigned long length;
};

int main(int argc, char **argv) {
    std::vector<const char *> args;
    std::string best;
    for (int i = 1; i < argc; i++) {
        if (!std::strcmp(argv[i], "-a") && i + 1 < argc)
            args.push_back(argv[++i]);
        else if (elf_of_this_width(argv[i]) && (best.empty() || version(argv[i]) > version(best)))
            best = argv[i];
    }
    if (best.empty()) {
        std::puts("there is no libclang");
        return 1;
    }
    std::printf("%s: ", best.c_str());
    std::fflush(stdout);
    void *library = dlopen(best.c_str(), RTLD_NOW);
    if (!library) {
        std::printf("it does not load: %s\n", dlerror());
        return 1;
    }
    auto create = symbol<void *(*)(int, int)>(library, "clang_createIndex");
    auto parse = symbol<void *(*)(void *, const char *, const char *const *, int, Unsaved *, unsigned, unsigned)>(
        library, "clang_parseTranslationUnit");
    auto count = symbol<unsigned (*)(void *)>(library, "clang_getNumDiagnostics");
    auto diagnostic = symbol<void *(*)(void *, unsigned)>(library, "clang_getDiagnostic");
    auto severity = symbol<int (*)(void *)>(library, "clang_getDiagnosticSeverity");
    // What rocksdb/c.h includes: the compiler's own headers and the C library's.
    const char *text = "#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\nsize_t f(uint64_t);\n";
    Unsaved file = {"probe.h", text, std::strlen(text)};
    void *unit = parse(create(0, 0), file.name, args.data(), static_cast<int>(args.size()), &file, 1, 0);
    if (!unit) {
        std::puts("it reads no file");
        return 1;
    }
    for (unsigned i = 0; i < count(unit); i++) {
        if (severity(diagnostic(unit, i)) >= 3) {
            std::puts("it does not find <stddef.h> and its like");
            return 1;
        }
    }
    std::puts("ok");
    return 0;
}
