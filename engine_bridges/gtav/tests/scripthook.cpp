// A fake ScriptHookV.dll: scripts run as fibres of the thread that calls fake_tick, natives are answered by the fake game,
// and a native that is called anywhere but inside a script ends the process.
#include "scripthook.hpp"

#include <cstdio>
#include <mutex>
#include <vector>

namespace {

constexpr UINT NATIVE_OFF_THE_SCRIPT = 77;

struct Script {
    HMODULE module;
    void (*main)();
    void* fibre;
    ULONGLONG due;
};

using Present = void (*)(void*);
using Keyboard = void (*)(DWORD, WORD, BYTE, BOOL, BOOL, BOOL, BOOL);

std::vector<Script*> scripts;
std::mutex mutex;  // for the callbacks
std::vector<Present> presents;
std::vector<Keyboard> keyboards;
Answer answers = nullptr;
World worlds = nullptr;
int version = 80;
void* game_fibre = nullptr;
DWORD script_thread = 0;
Script* running = nullptr;
std::uint64_t hash = 0, arguments[32], results[3];
int count = 0;

void check(const char* what) {
    if (running && GetCurrentThreadId() == script_thread && GetCurrentFiber() == running->fibre) return;
    std::fprintf(stderr, "fake ScriptHookV: %s was called off the script thread\n", what);
    std::fflush(stderr);
    TerminateProcess(GetCurrentProcess(), NATIVE_OFF_THE_SCRIPT);
}

void CALLBACK run(void* given) {
    static_cast<Script*>(given)->main();
    for (;;) SwitchToFiber(game_fibre);  // a script that has returned
}

template <typename T>
void drop(std::vector<T>& list, T one) {
    const std::lock_guard<std::mutex> lock(mutex);
    for (std::size_t i = list.size(); i-- > 0;) {
        if (list[i] == one) list.erase(list.begin() + static_cast<std::ptrdiff_t>(i));
    }
}

int all(int kind, int* handles, int most) {
    check("worldGetAll");
    return worlds ? worlds(kind, handles, most) : 0;
}

}  // namespace

extern "C" {

void scriptRegister(HMODULE module, void (*main)()) { scripts.push_back(new Script{module, main, nullptr, 0}); }

void scriptUnregister(HMODULE module) {
    for (std::size_t i = scripts.size(); i-- > 0;) {
        if (scripts[i]->module != module) continue;
        if (scripts[i]->fibre) DeleteFiber(scripts[i]->fibre);
        delete scripts[i];
        scripts.erase(scripts.begin() + static_cast<std::ptrdiff_t>(i));
    }
}

void scriptWait(DWORD milliseconds) {
    check("scriptWait");
    running->due = GetTickCount64() + milliseconds;
    SwitchToFiber(game_fibre);
}

void nativeInit(std::uint64_t which) {
    check("nativeInit");
    hash = which;
    count = 0;
}

void nativePush64(std::uint64_t value) {
    check("nativePush64");
    if (count < 32) arguments[count++] = value;
}

std::uint64_t* nativeCall() {
    check("nativeCall");
    results[0] = results[1] = results[2] = 0;
    if (answers) answers(hash, arguments, count, results);
    return results;
}

void presentCallbackRegister(Present callback) {
    const std::lock_guard<std::mutex> lock(mutex);
    presents.push_back(callback);
}
void presentCallbackUnregister(Present callback) { drop(presents, callback); }

void keyboardHandlerRegister(Keyboard handler) {
    const std::lock_guard<std::mutex> lock(mutex);
    keyboards.push_back(handler);
}
void keyboardHandlerUnregister(Keyboard handler) { drop(keyboards, handler); }

int worldGetAllVehicles(int* handles, int most) { return all(0, handles, most); }
int worldGetAllPeds(int* handles, int most) { return all(1, handles, most); }
int worldGetAllObjects(int* handles, int most) { return all(2, handles, most); }

int getGameVersion() { return version; }

void fake_answers(Answer answer, World world) {
    answers = answer;
    worlds = world;
}

void fake_version(int value) { version = value; }

void fake_tick() {
    if (!game_fibre) {
        game_fibre = ConvertThreadToFiber(nullptr);
        script_thread = GetCurrentThreadId();
    }
    const std::vector<Script*> now = scripts;
    for (Script* script : now) {
        if (GetTickCount64() < script->due) continue;
        if (!script->fibre) script->fibre = CreateFiber(1 << 18, run, script);
        running = script;
        SwitchToFiber(script->fibre);
        running = nullptr;
    }
}

void fake_present(void* swap_chain) {
    const std::lock_guard<std::mutex> lock(mutex);
    for (Present callback : presents) callback(swap_chain);
}

void fake_key(DWORD key, BOOL up) {
    const std::lock_guard<std::mutex> lock(mutex);
    for (Keyboard handler : keyboards) handler(key, 1, 0, FALSE, FALSE, up, up);
}

}  // extern "C"
