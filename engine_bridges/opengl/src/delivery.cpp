#include "delivery.hpp"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <future>

#include "programs.hpp"

namespace realmaster {
namespace {

constexpr double CONNECT_SECONDS = 5;  // how long a lossless frame waits for the daemon
constexpr int POLITENESS = 10;         // nice value of our threads in mode live
constexpr double GOOD = 0.05;          // least score of a depth that holds a scene
constexpr double PROBE_SECONDS = 2;    // between two looks at all depths
constexpr double FORGET_SECONDS = 20;  // a depth that was not seen for so long is forgotten
constexpr int STALE_FRAMES = 6;        // so many pictures that move while their depth stands still
constexpr int REASON_FRAMES = 12;      // frames without depth before the reason is told
constexpr int HUD_FRAMES = 60;         // frames with a scene before it is told that no HUD can be told apart

double score_of(const Look& look, const DepthKey& key, bool has_color, bool right_aspect) {
    if (look.constant()) return 0;
    double score = std::sqrt(look.covered) * std::clamp(look.agreement, 0.5, 3.0);
    if (key.kind == 0) score *= 1.3;  // the window's depth belongs to the window's picture
    if (!has_color) score *= 0.4;     // a shadow map
    if (!right_aspect) score *= 0.6;
    return score;
}

// Share of the pixels whose luma has changed.
double changed(const Rows& one, const Rows& other) {
    if (one.luma.size() != other.luma.size() || one.luma.empty()) return 1;
    std::size_t count = 0;
    for (std::size_t i = 0; i < one.luma.size(); ++i) count += std::abs(one.luma[i] - other.luma[i]) > 8;
    return static_cast<double>(count) / static_cast<double>(one.luma.size());
}

std::optional<DepthLaw> law_of(const Lens& lens) {
    return depth_law(lens.perspective->a, lens.perspective->b, lens.zero_to_one, lens.low, lens.high);
}

// Whether a lens draws a held item: into the near half of the main lens's depth range, which holds next to no space.
bool is_item(const Lens& lens, const Lens& main) {
    return lens.perspective && main.low == 0 && main.high == 1 && lens.low == 0 && lens.high > 0 && lens.high <= 0.5 &&
           !law_of(main)->reversed && law_of(lens) && !law_of(lens)->reversed;
}

Rows probe_rows(const Shot& shot, const Probe& probe) {
    return sample(shot.color, shot.color_rgba, shot.extra + probe.at, probe.format, false, shot.width, shot.height);
}

}  // namespace

const DepthKey* Plan::best(const std::vector<DepthKey>& keys) const {
    const DepthKey* found = nullptr;
    double most = GOOD;
    for (const DepthKey& key : keys) {
        const auto score = scores.find(key);
        if (score != scores.end() && score->second > most) {
            most = score->second;
            found = &key;
        }
    }
    return found;
}

Delivery::Delivery(int width, int height) : started_(now()) {
    const Settings& wanted = settings();
    session_.engine = "opengl";
    session_.game = wanted.game;
    session_.world_axes = session_.camera_axes = opengl_axes();
    session_.metres_per_unit = wanted.metres_per_unit.value_or(1);
    session_.fps = wanted.fps > 0 ? wanted.fps : 60;
    session_.mode = wanted.lossless ? "lossless" : "live";
    Descriptor color;
    color.name = "color";
    color.dtype = "uint8";
    color.shape = {static_cast<std::uint32_t>(height), static_cast<std::uint32_t>(width), 3};
    color.rows = "bottom";
    announced_ = {color};
    std::promise<void> ready;
    thread_ = std::thread([this, &ready] {
        // Live, the game goes first, also before the threads that the sender starts and that inherit this.
        if (!settings().lossless) setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), POLITENESS);
        connect();
        ready.set_value();
        run();
    });
    ready.get_future().wait();
}

void Delivery::connect() {
    session_.channels = announced_;
    Options options;
    options.connect_timeout = CONNECT_SECONDS;
    options.log = [](const std::string& sentence) { say(sentence); };
    auto made = std::make_shared<Sender>(session_, options);
    const std::lock_guard<std::mutex> lock(mutex_);
    sender_ = std::move(made);
}

// A lossless sender that has waited for the daemon in vain fails for good, but a game may run on for hours: another
// sender takes its place, which the game does not wait for. Whoever set a time to give up after wants the end.
void Delivery::revive() {
    const auto unused = [](const std::shared_ptr<Sender>& one) { return one.use_count() == 1; };
    retired_.erase(std::remove_if(retired_.begin(), retired_.end(), unused), retired_.end());
    const std::shared_ptr<Sender> old = sender();
    if (!settings().lossless || std::getenv("REALMASTER_GIVE_UP_AFTER") != nullptr || old->failure().empty()) return;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        revived_ = true;
    }
    retired_.push_back(old);
    connect();
}

std::shared_ptr<Sender> Delivery::sender() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return sender_;
}

bool Delivery::wanted() {
    const std::shared_ptr<Sender> one = sender();
    if (!one->failure().empty()) return false;
    if (one->connected()) return true;
    const std::lock_guard<std::mutex> lock(mutex_);
    return settings().lossless && !revived_;
}

bool Delivery::acquire(Shot& shot) {
    shot.sender = sender();
    shot.frame = shot.sender->acquire(next_serial_++);
    return shot.frame != nullptr;
}

void Delivery::release(Shot& shot) {
    if (shot.frame != nullptr) shot.sender->release(shot.frame);
    shot.frame = nullptr;
}

void Delivery::missed() {
    Shot shot;
    if (settings().lossless) {
        ++next_serial_;  // there is no daemon, and asking for a frame would wait for one
        return;
    }
    if (acquire(shot)) release(shot);
}

void Delivery::close(double seconds) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (ending_) return;
        ending_ = true;
    }
    news_.notify_all();
    if (thread_.joinable()) thread_.join();
    sender()->close(seconds);
}

Plan Delivery::plan() {
    const std::lock_guard<std::mutex> lock(mutex_);
    Plan plan;
    const double at = now();
    for (auto known = judgements_.begin(); known != judgements_.end();) {
        if (at - known->second.last > FORGET_SECONDS) {
            known = judgements_.erase(known);
        } else {
            plan.scores[known->first] = known->second.score;
            ++known;
        }
    }
    plan.probe = !scene_found_ || at - probed_ > PROBE_SECONDS;
    if (plan.probe) probed_ = at;
    plan.hudless = !hudless_refused_;
    plan.read = scene_found_ || given_up_;
    plan.send = announcements_ > 0 || given_up_;
    plan.announced = announcements_;
    plan.learned.swap(learned_);
    return plan;
}

void Delivery::push(std::shared_ptr<Shot> shot) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        queue_.push_back(std::move(shot));
    }
    news_.notify_one();
}

void Delivery::expect_no_depth() {
    const std::lock_guard<std::mutex> lock(mutex_);
    given_up_ = true;
}

void Delivery::tell(const std::string& name, const std::string& sentence) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!told_.insert(name).second) return;
        if (unsent_.size() < 64) unsent_.emplace_back(name, sentence);
    }
    say(sentence);
    news_.notify_one();
}

void Delivery::over(const std::string& name) {
    const std::lock_guard<std::mutex> lock(mutex_);
    told_.erase(name);
}

void Delivery::run() {
    for (;;) {
        std::shared_ptr<Shot> shot;
        {
            std::unique_lock<std::mutex> lock(mutex_);
            news_.wait_for(lock, std::chrono::milliseconds(250), [this] { return ending_ || !queue_.empty(); });
            if (queue_.empty() && ending_) return;
            if (!queue_.empty()) {
                shot = std::move(queue_.front());
                queue_.pop_front();
            }
        }
        revive();
        speak();
        if (shot == nullptr) continue;
        deliver(*shot);
        shot->released = true;
    }
}

// Events that were told while no daemon was there are kept for it.
void Delivery::speak() {
    const std::shared_ptr<Sender> to = sender();
    for (const Control& control : to->controls()) {
        if (control.name == "record_start") say("recording.");
        if (control.name == "record_stop") say("no longer recording.");
        if (control.name == "replay_save") say("the replay is saved.");
    }
    for (;;) {
        std::pair<std::string, std::string> one;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (unsent_.empty()) return;
            one = unsent_.front();
        }
        Map data;
        data.emplace_back("sentence", Value(one.second));
        if (!to->event(one.first, time(), data)) return;
        const std::lock_guard<std::mutex> lock(mutex_);
        unsent_.pop_front();
    }
}

void Delivery::note(const DepthKey& key, const Look& look, bool has_color, bool right_aspect) {
    const double score = score_of(look, key, has_color, right_aspect);
    const std::lock_guard<std::mutex> lock(mutex_);
    Judgement& known = judgements_[key];
    known.score = known.looks == 0 ? score : 0.7 * known.score + 0.3 * score;
    if (score == 0 && known.looks < 3) known.score = 0;
    ++known.looks;
    known.last = now();
    if (!scene_found_ && known.looks >= 2 && known.score > GOOD) scene_found_ = true;
}

void Delivery::judge(Shot& shot) {
    bool any = false;
    for (const Probe& probe : shot.probes) {
        const Look look = look_at(probe_rows(shot, probe));
        note(probe.key, look, probe.has_color, probe.right_aspect);
        any = any || !look.constant();
        if (settings().verbose) {
            whisper(describe(probe.key) + ": covers " + std::to_string(look.covered) + ", " +
                    std::to_string(look.levels) + " levels, edges agree " + std::to_string(look.agreement) + ", " +
                    std::to_string(probe.weight) + " vertices, score " +
                    std::to_string(score_of(look, probe.key, probe.has_color, probe.right_aspect)) + ".");
        }
    }
    if (!shot.probes.empty() && !any && shot.depth == nullptr && shot.why_no_depth.empty()) {
        shot.why_no_depth = "constant";
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!scene_found_ && !given_up_ && time() > settings().wait) given_up_ = true;
}

Delivery::Optics Delivery::measure(Shot& shot) {
    Lens* best = nullptr;
    for (Lens& lens : shot.lenses) {
        if (lens.program != 0) {
            std::vector<std::array<float, 16>> matrices(lens.copy_bytes / 64);
            std::vector<Candidate> given;
            for (std::size_t i = 0; i < matrices.size() && shot.extra != nullptr; ++i) {
                float* into = matrices[i].data();
                std::memcpy(into, shot.extra + lens.copy_at + 64 * i, 64);
                if (lens.row_major[i] != 0) {
                    for (int r = 0; r < 4; ++r) {
                        for (int c = 0; c < r; ++c) std::swap(into[4 * r + c], into[4 * c + r]);
                    }
                }
                given.push_back({into, false});
            }
            if (!given.empty()) {
                const double aspect = static_cast<double>(lens.viewport.width) / std::max(1, lens.viewport.height);
                lens.perspective = choose(given, aspect, {}).lens;
                const std::lock_guard<std::mutex> lock(mutex_);
                learned_.emplace_back(lens.program, lens.perspective);
            }
        }
        if (!lens.perspective || !law_of(lens)) continue;
        const double span = std::fabs(lens.high - lens.low), most = best ? std::fabs(best->high - best->low) : 0;
        if (best == nullptr || span > most || (span == most && lens.weight > best->weight)) best = &lens;
    }
    if (best != nullptr) measured_ = *best;

    Optics optics;
    const Settings& declared = settings();
    const bool some = declared.vfov || declared.near || declared.far;
    if (measured_ && (best != nullptr || !some)) {
        const Lens& lens = *measured_;
        const Perspective& p = *lens.perspective;
        const DepthLaw law = *law_of(lens);
        const double x = shot.depth_key.kind == 0 ? lens.viewport.x : 0,
                     y = shot.depth_key.kind == 0 ? lens.viewport.y : 0;
        optics.camera.fx = p.fx * lens.viewport.width / 2;
        optics.camera.fy = p.fy * lens.viewport.height / 2;
        optics.camera.cx = x + (1 - p.sx) * lens.viewport.width / 2 - 0.5;
        optics.camera.cy = y + (1 - p.sy) * lens.viewport.height / 2 - 0.5;
        optics.camera.near_clip = law.near;
        optics.camera.far_clip = law.far;
        optics.reversed = law.reversed;
        optics.projection = "measured";
        optics.low = lens.low;
        optics.high = lens.high;
        optics.law = law;
        for (const Lens& other : shot.lenses) {
            if (!optics.item && is_item(other, lens)) optics.item = other;
        }
        return optics;
    }
    const Lens lens = shot.lenses.empty() ? Lens{} : shot.lenses.front();
    const double focal = shot.height / 2.0 / std::tan(declared.vfov.value_or(M_PI / 3) / 2);
    optics.camera.fx = optics.camera.fy = focal;
    optics.camera.cx = (shot.width - 1) / 2.0;
    optics.camera.cy = (shot.height - 1) / 2.0;
    optics.camera.near_clip = declared.near.value_or(0.1);
    optics.camera.far_clip = declared.far.value_or(std::max(1000.0, optics.camera.near_clip * 10000));
    optics.reversed = lens.reversed != (lens.low > lens.high);
    optics.projection = some ? "declared" : "default";
    optics.low = lens.low;
    optics.high = lens.high;
    return optics;
}

void Delivery::write_depth(const Shot& shot, const Optics& optics, float* into) {
    const std::size_t pixels = static_cast<std::size_t>(shot.width) * static_cast<std::size_t>(shot.height);
    to_float(shot.depth, shot.depth_format, pixels, into);
    if (shot.off_x != 0 || shot.off_y != 0) centre(into, shot.width, shot.height, shot.off_x, shot.off_y);
    stretch(into, pixels, optics.low, optics.high);
    if (!optics.item) return;
    // The item's own law gives its distance, the scene's law the number that says it.
    const DepthLaw law = *law_of(*optics.item);
    const auto edge = static_cast<float>(optics.item->high);
    const double widen = 1 / optics.item->high, ratio = optics.law.beta / law.beta;
    for (std::size_t i = 0; i < pixels; ++i) {
        if (into[i] >= edge) continue;
        const double v = optics.law.alpha + ratio * (into[i] * widen - law.alpha);
        into[i] = static_cast<float>(std::clamp(v, 0.0, 0.99999994));
    }
}

std::string Delivery::gate(const Shot& shot) {
    const Rows rows = sample(shot.color, shot.color_rgba, shot.depth, shot.depth_format, true, shot.width, shot.height);
    const Look look = look_at(rows);
    note(shot.depth_key, look, true, true);
    const bool same = rows.depth == last_rows_.depth && changed(rows, last_rows_) > 0.2;
    same_depth_ = same ? same_depth_ + 1 : rows.depth == last_rows_.depth ? same_depth_ : 0;
    last_rows_ = rows;
    if (look.constant()) return "constant";
    if (same_depth_ >= STALE_FRAMES) return "stale";
    return "";
}

void Delivery::refuse(const std::string& reason, const std::string& detail) {
    reason_frames_ = reason == reason_ ? reason_frames_ + 1 : 1;
    reason_ = reason;
    if (reason_frames_ != REASON_FRAMES) return;
    std::string sentence = "no 3-D scene is drawn yet";
    if (reason == "no_scene" && announcements_ > 0) {
        sentence =
            "depth is refused as stale: nothing is drawn into it any more while the picture goes on, as in a menu or "
            "a film";
    }
    if (reason == "constant")
        sentence = "depth is refused as constant: every depth that the game draws into is one number";
    if (reason == "stale") sentence = "depth is refused as stale: it stands still while the picture moves";
    if (reason == "wrong_size") {
        sentence = "depth is refused for its wrong size: the scene is drawn at " + detail +
                   ", not at the window's size; "
                   "set the game's render scale to 100 %";
    }
    if (reason == "orthographic") sentence = "depth is refused as orthographic: the scene is drawn without perspective";
    if (reason == "unreadable") sentence = "depth is refused as unreadable: the driver does not give it out";
    tell("depth_" + reason, sentence + "; frames go without depth.");
}

void Delivery::announce(const Shot& shot, bool hudless, const Optics& optics) {
    std::vector<Descriptor> wanted = announced_;
    const auto find = [&wanted](const char* name) {
        return std::find_if(wanted.begin(), wanted.end(), [name](const Descriptor& d) { return d.name == name; });
    };
    const auto height = static_cast<std::uint32_t>(shot.height), width = static_cast<std::uint32_t>(shot.width);
    if (find("depth") == wanted.end()) {
        wanted.emplace_back();
        wanted.back().name = "depth";
    }
    Descriptor& depth = *find("depth");
    depth.dtype = "float32";
    depth.rows = "bottom";
    depth.kind = optics.reversed ? "ndc_reversed" : "ndc";
    depth.projection = optics.projection;
    depth.scale_unknown = !settings().metres_per_unit.has_value();
    if (hudless && find("color_hudless") == wanted.end()) {
        wanted.push_back(wanted.front());
        wanted.back().name = "color_hudless";
        hudless_announced_ = true;
    }
    bool news = wanted.size() != announced_.size();
    for (std::size_t i = 0; i < announced_.size() && !news; ++i) {
        news = wanted[i].kind != announced_[i].kind || wanted[i].projection != announced_[i].projection;
    }
    if (!news) return;
    for (Descriptor& d : wanted) {
        d.shape = d.name == "depth" ? std::vector<std::uint32_t>{height, width}
                                    : std::vector<std::uint32_t>{height, width, 3};
    }
    announced_ = wanted;
    (shot.sender != nullptr ? shot.sender : sender())->describe(wanted);
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        ++announcements_;
    }
    char text[256];
    const Camera& c = optics.camera;
    std::snprintf(text, sizeof text, "depth is %s; vertical field of view %.2f degrees, near %g, far %g (%s).",
                  describe(shot.depth_key).c_str(), 2 * std::atan(shot.height / 2.0 / c.fy) * 180 / M_PI, c.near_clip,
                  c.far_clip, optics.projection.c_str());
    tell("depth_" + optics.projection, text);
}

void Delivery::deliver(Shot& shot) {
    judge(shot);
    std::string refused = shot.why_no_depth;
    if (shot.depth != nullptr) refused = gate(shot);
    const bool depth = shot.depth != nullptr && refused.empty();
    Optics optics;
    if (depth) optics = measure(shot);
    const bool hudless = depth && shot.hudless != nullptr && is_before_hud(shot);
    if (depth) announce(shot, hudless, optics);
    if (!refused.empty()) refuse(refused, shot.detail);
    if (shot.frame == nullptr) return;
    if (depth && shot.announced != announcements_) {  // the sender's frame was made for other channels
        release(shot);
        return;
    }

    const std::size_t pixels = static_cast<std::size_t>(shot.width) * static_cast<std::size_t>(shot.height);
    const auto height = static_cast<std::uint32_t>(shot.height), width = static_cast<std::uint32_t>(shot.width);
    Frame& frame = *shot.frame;
    const auto fill = [&](const char* name, const std::uint8_t* picture) {
        void* into = frame.channel(name, height, width);
        if (into != nullptr) to_rgb(picture, shot.color_rgba, pixels, static_cast<std::uint8_t*>(into));
    };
    fill("color", shot.color);
    if (hudless || (hudless_announced_ && depth && shot.no_hud)) {
        fill("color_hudless", hudless ? shot.hudless : shot.color);
    }
    if (depth) {
        if (void* into = frame.channel("depth", height, width)) {
            write_depth(shot, optics, static_cast<float*>(into));
        }
        frame.camera = optics.camera;
        frame.flags = {"no_pose"};
        follow_up(optics);
    }
    frame.time = shot.time;
    shot.sender->submit(shot.frame);
}

// Whether the picture before the HUD is the finished one but for the HUD.
bool Delivery::is_before_hud(const Shot& shot) {
    unlike_ = likeness(shot.color, shot.hudless, shot.width, shot.height) < 0.2 ? unlike_ + 1 : 0;
    if (unlike_ == STALE_FRAMES) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            hudless_refused_ = true;
        }
        tell("hudless_unlike",
             "the picture before the HUD is unlike the finished one, so the HUD cannot be told apart: "
             "there is no color_hudless any more.");
    }
    return unlike_ == 0;
}

// After a frame with depth: what was refused is no longer, and what the user should know of it.
void Delivery::follow_up(const Optics& optics) {
    reason_.clear();
    for (const char* reason : {"constant", "stale", "wrong_size", "orthographic", "unreadable", "no_scene"}) {
        over(std::string("depth_") + reason);
    }
    if (optics.item) {
        tell("held_item",
             "a held item is drawn in front of everything with a depth range of its own: its depth is "
             "stretched back to where it is.");
    }
    if (++scenes_ == HUD_FRAMES && !hudless_announced_ && settings().hudless) {
        tell("no_hudless",
             "nothing that is drawn over the finished scene can be told apart as a HUD: there is no "
             "color_hudless.");
    }
}

}  // namespace realmaster
