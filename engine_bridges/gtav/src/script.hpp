// The script side: what is asked of the game once a tick, and what is done in it.
//
// Runs inside the script thread of ScriptHookV, the only place where natives may be called. A tick never waits by itself,
// so that nothing is lost when ScriptHookV ends the thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "capture.hpp"
#include "delivery.hpp"
#include "natives.hpp"
#include "snapshot.hpp"

namespace realmaster {

class Script {
public:
    Script(const Settings& settings, const ScriptHook& hook, History& history, Delivery& delivery, Capture& capture)
        : settings_(settings), hook_(hook), natives_(hook), history_(history), delivery_(delivery), capture_(capture) {}

    void tick();

private:
    bool online();
    void look();
    void add_entities(Snapshot& snapshot);
    Entity entity(int handle, const char* cls);
    void tell_world();
    void pace();
    void pause(bool on);
    void send_camera(const Snapshot& snapshot);

    const Settings& settings_;
    const ScriptHook& hook_;
    const Natives natives_;
    History& history_;
    Delivery& delivery_;
    Capture& capture_;

    std::uint64_t ticks_ = 0;
    bool off_ = false;  // the player went online
    int player_ = 0;
    std::string world_;  // as it was told last
    double camera_sent_ = -1;

    // Lossless: the game stands still until a frame is taken, then makes one step.
    enum class Step { running, standing, stepping, waiting };
    Step step_ = Step::running;
    std::optional<bool> paused_;  // unknown at first: the mod may have been unloaded while the game stood still
};

}  // namespace realmaster
