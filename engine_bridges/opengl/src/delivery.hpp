// From shots to frames: which depth is the scene's by its content, what may be passed on, and the sender.
//
// One thread of its own reads the mapped memory, judges it, converts it and submits it. The thread that renders only
// asks for the plan and queues shots; the one lock between them is never held over I/O, waiting or conversion.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "content.hpp"
#include "realmaster/sender.hpp"
#include "settings.hpp"
#include "shot.hpp"

namespace realmaster {

using Learned = std::vector<std::pair<std::uint32_t, std::optional<Perspective>>>;

// What the next frame is to be followed for.
struct Plan {
    std::map<DepthKey, double> scores;  // of the depths that were judged; 0: no scene
    bool probe = true;                  // look at all depths
    bool hudless = true;
    bool read = false;  // the scene is known: read its depth, and the picture before the HUD
    bool send = false;  // and hand frames over
    int announced = 0;  // how often the channels have changed so far
    Learned learned;    // lenses of programs, from their uniform buffers

    // The best of some keys; nullptr if none of them holds a scene.
    const DepthKey* best(const std::vector<DepthKey>& keys) const;
};

class Delivery {
public:
    // The first swap: starts the sender and the thread.
    Delivery(int width, int height);
    // At the end of the process: what is queued is still sent, for at most so many seconds.
    void close(double seconds);

    Plan plan();
    // Gives the shot a frame to be sent in. False: dropped, and counted.
    bool acquire(Shot& shot);
    // The shot is not sent after all.
    static void release(Shot& shot);
    // Whether frames can go anywhere just now. In mode lossless they wait for the daemon, but not once it was gone.
    bool wanted();
    // A frame that was due could not be captured: it counts as dropped.
    void missed();
    void push(std::shared_ptr<Shot> shot);
    // The API gives no depth: frames go without it from the first.
    void expect_no_depth();
    // Something that the user should know: one sentence on stderr and an event of the session, once until `over`.
    void tell(const std::string& name, const std::string& sentence);
    void over(const std::string& name);
    // An event that the daemon acts on.
    void event(const std::string& name) { sender()->event(name, time()); }
    // Seconds since the first swap.
    double time() const { return now() - started_; }

private:
    struct Judgement {
        double score = 0;
        int looks = 0;
        double last = 0;  // time
    };
    // Where the camera of a frame comes from.
    struct Optics {
        Camera camera;
        bool reversed = false;
        std::string projection;
        double low = 0, high = 1;  // glDepthRange
        DepthLaw law;
        std::optional<Lens> item;  // a held item, drawn in front with a depth range of its own
    };

    void run();
    void deliver(Shot& shot);
    void judge(Shot& shot);
    void note(const DepthKey& key, const Look& look, bool has_color, bool right_aspect);
    Optics measure(Shot& shot);
    // Why this depth is not passed on; empty when it is.
    std::string gate(const Shot& shot);
    void refuse(const std::string& reason, const std::string& detail);
    void write_depth(const Shot& shot, const Optics& optics, float* into);
    void announce(const Shot& shot, bool hudless, const Optics& optics);
    bool is_before_hud(const Shot& shot);
    void follow_up(const Optics& optics);
    void speak();

    std::shared_ptr<Sender> sender();
    void connect();
    void revive();

    const double started_;
    std::atomic<std::uint64_t> next_serial_{0};  // of all senders: one number for every frame that was due
    Session session_;
    std::thread thread_;

    std::mutex mutex_;  // for what follows
    std::shared_ptr<Sender> sender_;
    bool revived_ = false;
    std::condition_variable news_;
    std::deque<std::shared_ptr<Shot>> queue_;
    bool ending_ = false;
    std::map<DepthKey, Judgement> judgements_;
    double probed_ = -1e9;
    Learned learned_;
    bool scene_found_ = false, given_up_ = false, hudless_refused_ = false;
    int announcements_ = 0;
    std::set<std::string> told_;
    std::deque<std::pair<std::string, std::string>> unsent_;  // events: name, sentence

    // Of the thread.
    std::vector<Descriptor> announced_;
    std::optional<Lens> measured_;
    Rows last_rows_;
    int same_depth_ = 0, unlike_ = 0, scenes_ = 0;
    bool hudless_announced_ = false;
    std::vector<std::shared_ptr<Sender>> retired_;  // that shots may still have frames of
    std::string reason_;
    int reason_frames_ = 0;
};

}  // namespace realmaster
