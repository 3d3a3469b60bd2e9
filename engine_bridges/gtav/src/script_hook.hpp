// ScriptHookV, found at run time by the names that its DLL exports: whoever has another version gets a sentence in place
// of a game that does not start. Own declarations; nothing of its SDK is needed.
#pragma once

#include <windows.h>

#include <cstdint>
#include <string>

namespace realmaster {

struct ScriptHook {
    using Present = void (*)(void* swap_chain);
    using Keyboard = void (*)(DWORD key, WORD repeats, BYTE scan, BOOL extended, BOOL alt, BOOL was_down, BOOL is_up);

    // Always there once `bind` has given an empty text.
    void (*script_register)(HMODULE, void (*)()) = nullptr;
    void (*script_unregister)(HMODULE) = nullptr;
    void (*script_wait)(DWORD milliseconds) = nullptr;
    void (*native_init)(std::uint64_t hash) = nullptr;
    void (*native_push)(std::uint64_t value) = nullptr;
    std::uint64_t* (*native_call)() = nullptr;
    // nullptr in old versions.
    void (*present_register)(Present) = nullptr;
    void (*present_unregister)(Present) = nullptr;
    void (*keyboard_register)(Keyboard) = nullptr;
    void (*keyboard_unregister)(Keyboard) = nullptr;
    int (*all_vehicles)(int* handles, int most) = nullptr;
    int (*all_people)(int* handles, int most) = nullptr;
    int (*game_version)() = nullptr;

    /// Finds the functions; an empty text, or why nothing can be done.
    std::string bind();
    /// Whether this is the Enhanced edition, which draws with Direct3D 12.
    bool enhanced() const;
};

}  // namespace realmaster
