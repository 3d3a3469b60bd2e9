#include "gl_api.hpp"

#include <cstdio>
#include <cstring>

namespace realmaster::gl {

#define REALMASTER_DEFINE(name, result, parameters) result(*name) parameters = nullptr;
REALMASTER_GL_FUNCTIONS(REALMASTER_DEFINE)
#undef REALMASTER_DEFINE

void load(void* (*find)(const char* name)) {
#define REALMASTER_FIND(name, result, parameters) name = reinterpret_cast<result(*) parameters>(find("gl" #name));
    REALMASTER_GL_FUNCTIONS(REALMASTER_FIND)
#undef REALMASTER_FIND
}

namespace {

bool lists(const char* name, const Version& version) {
    if (version.at_least(3, 0) && GetStringi != nullptr) {
        Int count = 0;
        GetIntegerv(NUM_EXTENSIONS, &count);
        for (Int i = 0; i < count; ++i) {
            const auto* listed = reinterpret_cast<const char*>(GetStringi(EXTENSIONS, static_cast<Uint>(i)));
            if (listed != nullptr && std::strcmp(listed, name) == 0) return true;
        }
        return false;
    }
    const auto* all = reinterpret_cast<const char*>(GetString(EXTENSIONS));
    const std::size_t length = std::strlen(name);
    for (const char* at = all; at != nullptr && (at = std::strstr(at, name)) != nullptr; at += length) {
        if ((at == all || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0')) return true;
    }
    return false;
}

}  // namespace

Version version() {
    Version found;
    const auto* text = reinterpret_cast<const char*>(GetString(VERSION));
    if (text == nullptr) return found;
    if (std::strncmp(text, "OpenGL ES", 9) == 0) {
        found.es = true;
        text = std::strpbrk(text, "0123456789");
        if (text == nullptr) return found;
    }
    std::sscanf(text, "%d.%d", &found.major, &found.minor);
    Int value = 0;
    if (found.es) {
        found.fixed_function = false;
    } else if (found.at_least(3, 2)) {
        GetIntegerv(CONTEXT_PROFILE_MASK, &value);
        found.fixed_function = (value & COMPATIBILITY_PROFILE_BIT) != 0;
    } else if (found.at_least(3, 1)) {
        found.fixed_function = lists("GL_ARB_compatibility", found);
    } else if (found.at_least(3, 0)) {
        GetIntegerv(CONTEXT_FLAGS, &value);
        found.fixed_function = (value & FORWARD_COMPATIBLE_BIT) == 0;
    } else {
        found.fixed_function = true;
    }
    return found;
}

bool has_extension(const char* name) { return lists(name, version()); }

}  // namespace realmaster::gl
