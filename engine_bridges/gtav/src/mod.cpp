// realmaster.asi: what ScriptHookV loads into the game. Puts the parts together, and takes them apart again.
#include <windows.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "capture.hpp"
#include "delivery.hpp"
#include "log.hpp"
#include "script.hpp"
#include "script_hook.hpp"
#include "settings.hpp"

namespace realmaster {
namespace {

std::filesystem::path folder_of(HMODULE module) {
    std::wstring path(32768, L'\0');
    path.resize(GetModuleFileNameW(module, path.data(), static_cast<DWORD>(path.size())));
    return std::filesystem::path(path).parent_path();
}

class Mod {
public:
    explicit Mod(HMODULE module)
        : module_(module), folder_(folder_of(module)), log_(folder_ / "realmaster.log"),
          settings_(Settings::read(folder_ / "realmaster.ini", problems_)), delivery_(settings_, log_, history_),
          capture_(settings_, log_, history_, delivery_, folder_),
          script_(settings_, hook_, history_, delivery_, capture_) {}

    bool begin() {
        log_.line("realmaster " REALMASTER_VERSION " begins.");
        for (const std::string& problem : problems_) log_.line(problem);
        if (const std::string problem = hook_.bind(); !problem.empty()) {
            log_.line(problem + " Nothing is recorded.");
            return false;
        }
        log_.line("ScriptHookV is there" +
                  (hook_.game_version ? ", and says that the game's version is number " + std::to_string(hook_.game_version())
                                      : std::string()) + ".");
        if (!hook_.present_register) {
            delivery_.tell("old_script_hook", "This ScriptHookV has no present callback: there are no pixels, only camera and "
                           "entities. Install its newest version.");
        }
        if (!hook_.keyboard_register) log_.line("This ScriptHookV has no keyboard handler: the keys do nothing.");
        if (!hook_.all_vehicles || !hook_.all_people) log_.line("This ScriptHookV does not list entities: none are sent.");
        return true;
    }

    void join_in(void (*on_script)(), ScriptHook::Present on_present, ScriptHook::Keyboard on_key) {
        hook_.script_register(module_, on_script);
        if (hook_.present_register) hook_.present_register(on_present);
        if (hook_.keyboard_register) hook_.keyboard_register(on_key);
        present_ = on_present;
        keyboard_ = on_key;
    }

    /// Leaves the game as it was. The order matters: nobody calls us any more, then the frames that are under way are
    /// let go, then the memory that they were read from.
    void end() {
        if (hook_.keyboard_unregister && keyboard_) hook_.keyboard_unregister(keyboard_);
        if (hook_.present_unregister && present_) hook_.present_unregister(present_);
        if (present_) hook_.script_unregister(module_);
        capture_.leave();
        delivery_.stop();
        capture_.release();
        log_.line("realmaster ends.");
    }

    void script() {
        for (;;) {
            script_.tick();
            hook_.script_wait(0);
        }
    }

    void present(void* chain) { capture_.present(static_cast<IDXGISwapChain*>(chain)); }

    void key(int code) {
        if (code == 0 || !capture_.enabled) return;
        if (code == settings_.key_take) {
            if (!delivery_.event("record_toggle")) log_.line("The take key was pressed, but no daemon is there.");
        } else if (code == settings_.key_replay) {
            if (!delivery_.event("replay_save")) log_.line("The replay key was pressed, but no daemon is there.");
        } else if (code == settings_.key_hud) {
            delivery_.wishes.hide_hud = !delivery_.wishes.hide_hud;
        } else if (code == settings_.key_dump) {
            delivery_.wishes.dump = true;
        }
    }

private:
    HMODULE module_;
    std::filesystem::path folder_;
    std::vector<std::string> problems_;
    Log log_;
    Settings settings_;
    ScriptHook hook_;
    History history_;
    Delivery delivery_;
    Capture capture_;
    Script script_;
    ScriptHook::Present present_ = nullptr;
    ScriptHook::Keyboard keyboard_ = nullptr;
};

Mod* mod = nullptr;

void run_script() { mod->script(); }
void on_present(void* chain) { mod->present(chain); }
void on_key(DWORD key, WORD, BYTE, BOOL, BOOL, BOOL was_down, BOOL is_up) {
    if (!is_up && !was_down) mod->key(static_cast<int>(key));
}

}  // namespace
}  // namespace realmaster

BOOL WINAPI DllMain(HINSTANCE module, DWORD reason, LPVOID process_ends) {
    using namespace realmaster;
    if (reason == DLL_PROCESS_ATTACH) {
        DisableThreadLibraryCalls(module);
        mod = new Mod(module);
        if (mod->begin()) mod->join_in(run_script, on_present, on_key);
    } else if (reason == DLL_PROCESS_DETACH && !process_ends && mod) {
        // When the process ends, its other threads are gone already, and so is all that is to be put back.
        mod->end();
        delete mod;
        mod = nullptr;
    }
    return TRUE;
}
