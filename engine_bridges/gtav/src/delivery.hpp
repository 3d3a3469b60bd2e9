// From captured presents to sent frames, on a thread of its own: chooses the camera, converts the pixels, sends.
//
// Knows the sender and the script's snapshots; nothing of Direct3D or ScriptHookV.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../../cpp/src/thread.hpp"
#include "log.hpp"
#include "matching.hpp"
#include "pixels.hpp"
#include "realmaster/sender.hpp"
#include "settings.hpp"
#include "shot.hpp"

namespace realmaster {

/// What the daemon, or a key, has asked for and nobody has done yet; and what is so now.
struct Wishes {
    std::atomic<bool> hide_hud{false};
    std::atomic<bool> paused{false};
    std::atomic<int> steps{0};
    std::atomic<bool> dump{false};
    std::atomic<bool> recording{false};
};

class Delivery {
public:
    Delivery(const Settings& settings, Log& log, const History& history);
    ~Delivery();

    /// Begins to look for the daemon, from the first call on; the size of the picture that will be sent.
    void start(int width, int height, bool rgba);
    /// Ends the threads; frames that were handed over and not sent are given back.
    void stop();

    // From the thread that renders.
    /// A frame to fill, or nullptr, and then it is counted as dropped. Never waits.
    Frame* acquire();
    /// Whether `acquire` would give a frame; asking costs nothing.
    bool ready() const;
    bool connected() const;
    void release(Frame* frame);
    void push(Shot* shot);
    /// Targets of the G-buffer that should be read back, as bits.
    unsigned wanted_targets() const { return wanted_targets_; }

    // From any thread.
    /// Says something once, in the log and to the daemon, until `over`.
    void tell(const std::string& name, const std::string& sentence);
    /// That reason is no more.
    void over(const std::string& name);
    bool event(const std::string& name, Map data = {});

    Wishes wishes;

private:
    void run();
    void connect();
    void obey();
    void notice(const std::string& reason, Value sentence);
    void repeat_notices();
    void speak();
    void deliver(Shot& shot);
    void fill(Shot& shot, const Match& match);
    void describe(const Shot& shot, const Size& size);
    void want_targets();
    std::shared_ptr<Sender> sender() const;

    const Settings& settings_;
    Log& log_;
    const History& history_;
    Session session_;

    mutable std::mutex mutex_;
    std::condition_variable news_;
    std::deque<Shot*> queue_;
    std::shared_ptr<Sender> sender_;  // replaced by the worker alone
    std::map<std::string, std::string> told_;  // what is amiss now: reason to sentence
    std::deque<std::pair<std::string, Map>> unsent_;  // events for a daemon that is not there yet
    bool started_ = false, ending_ = false;
    std::atomic<unsigned> wanted_targets_{0};
    std::atomic<int> lent_{0};  // frames of the sender that are in somebody's hands
    std::atomic<double> game_time_{0};

    // The worker's.
    Matcher matcher_;
    Normals normals_;
    bool rgba_ = false, reversed_ = true;  // as the channels were announced
    std::optional<std::array<double, 16>> last_pose_;
    int frames_ = 0;
    bool was_connected_ = false;

    Thread thread_;
};

}  // namespace realmaster
