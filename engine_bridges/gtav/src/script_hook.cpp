#include "script_hook.hpp"

namespace realmaster {
namespace {

constexpr int FIRST_ENHANCED = 1001;

template <typename Function>
void find(HMODULE module, const char* name, Function& into) {
    into = reinterpret_cast<Function>(reinterpret_cast<void*>(GetProcAddress(module, name)));
}

}  // namespace

std::string ScriptHook::bind() {
    HMODULE module = GetModuleHandleW(L"ScriptHookV.dll");
    // From DllMain: the loader would have done the same for a library that is linked to it.
    if (!module) module = LoadLibraryW(L"ScriptHookV.dll");
    if (!module) {
        return "There is no ScriptHookV.dll in the game's folder: get ScriptHookV from its author's page, dev-c.com.";
    }
    find(module, "?scriptRegister@@YAXPEAUHINSTANCE__@@P6AXXZ@Z", script_register);
    find(module, "?scriptUnregister@@YAXPEAUHINSTANCE__@@@Z", script_unregister);
    find(module, "?scriptWait@@YAXK@Z", script_wait);
    find(module, "?nativeInit@@YAX_K@Z", native_init);
    find(module, "?nativePush64@@YAX_K@Z", native_push);
    find(module, "?nativeCall@@YAPEA_KXZ", native_call);
    find(module, "?presentCallbackRegister@@YAXP6AXPEAX@Z@Z", present_register);
    find(module, "?presentCallbackUnregister@@YAXP6AXPEAX@Z@Z", present_unregister);
    find(module, "?keyboardHandlerRegister@@YAXP6AXKGEHHHH@Z@Z", keyboard_register);
    find(module, "?keyboardHandlerUnregister@@YAXP6AXKGEHHHH@Z@Z", keyboard_unregister);
    find(module, "?worldGetAllVehicles@@YAHPEAHH@Z", all_vehicles);
    find(module, "?worldGetAllPeds@@YAHPEAHH@Z", all_people);
    find(module, "?getGameVersion@@YA?AW4eGameVersion@@XZ", game_version);
    if (!present_unregister) present_register = nullptr;
    if (!keyboard_unregister) keyboard_register = nullptr;
    const bool whole = script_register && script_unregister && script_wait && native_init && native_push && native_call;
    return whole ? "" : "This ScriptHookV lacks functions that scripts need: install its newest version.";
}

bool ScriptHook::enhanced() const { return game_version && game_version() >= FIRST_ENHANCED; }

}  // namespace realmaster
