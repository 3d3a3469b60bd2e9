#include "delivery.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace realmaster {
namespace {

constexpr double CUT_METRES = 8, CUT_COSINE = 0.7;  // between two frames: the camera has jumped
constexpr int RETRY_SECONDS = 5;
constexpr std::size_t MOST_UNSENT = 64;

Descriptor channel(const std::string& name, const std::string& dtype, std::vector<std::uint32_t> shape) {
    Descriptor one;
    one.name = name;
    one.dtype = dtype;
    one.shape = std::move(shape);
    return one;
}

/// Everything that may be sent; what is not there is left out of the frames.
std::vector<Descriptor> channels(const Settings& settings, int width, int height, bool rgba, bool reversed) {
    const auto h = static_cast<std::uint32_t>(height), w = static_cast<std::uint32_t>(width);
    std::vector<Descriptor> all{channel("color", "uint8", {h, w, 4}), channel("depth", "float32", {h, w})};
    all[0].order = rgba ? "rgba" : "bgra";
    all[1].kind = reversed ? "ndc_reversed" : "ndc";
    if (settings.normals) {
        all.push_back(channel("normal", "int16", {h, w, 2}));
        all.back().space = "world";
        all.back().encoding = "octahedral";
    }
    if (settings.segmentation) all.push_back(channel("segmentation", "uint8", {h, w}));
    if (settings.albedo) {
        all.push_back(channel("albedo", "uint8", {h, w, 4}));
        all.back().order = "rgba";
    }
    return all;
}

}  // namespace

Delivery::Delivery(const Settings& settings, Log& log, const History& history)
    : settings_(settings), log_(log), history_(history), matcher_(settings.lag) {
    wishes.hide_hud = settings.hide_hud;
}

Delivery::~Delivery() { stop(); }

void Delivery::start(int width, int height, bool rgba) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (started_ || ending_) return;
    started_ = true;
    session_.engine = "RAGE";
    session_.game = "Grand Theft Auto V";
    session_.world_axes = session_.camera_axes = gta_axes();
    session_.fps = settings_.fps > 0 ? settings_.fps : 60;
    session_.mode = settings_.mode == Mode::lossless ? "lossless" : "live";
    rgba_ = rgba;
    session_.channels = channels(settings_, width / settings_.scale, height / settings_.scale, rgba_, reversed_);
    session_.capabilities = {"hide_hud", "pause", "step", "dump"};
    if (settings_.segmentation) {
        session_.legend = {{"segmentation", {{0, "map"}, {1, "person"}, {2, "vehicle"}, {3, "vegetation"}, {4, "ground"},
                                             {7, "sky"}, {8, "underground entrance"}, {129, "player"},
                                             {130, "player's vehicle"}}}};
    }
    want_targets();
    connect();
    thread_ = Thread([this] { run(); });
}

/// Under mutex_.
void Delivery::connect() {
    Options options;
    options.endpoint = settings_.endpoint;
    options.slots = settings_.mode == Mode::take ? 12 : 6;
    options.log = [this](const std::string& sentence) { log_.line(sentence); };
    sender_ = std::make_shared<Sender>(session_, options);
}

void Delivery::stop() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        ending_ = true;
    }
    news_.notify_all();
    if (thread_.joinable()) thread_.join();
    std::shared_ptr<Sender> last;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (Shot* shot : queue_) {
            if (shot->frame) sender_->release(shot->frame);
            shot->consumed = true;
        }
        queue_.clear();
        last.swap(sender_);
    }
    if (last) last->close(1);
}

std::shared_ptr<Sender> Delivery::sender() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return sender_;
}

bool Delivery::ready() const {
    const auto to = sender();
    return to && to->ready();
}

bool Delivery::connected() const {
    const auto to = sender();
    return to && to->connected();
}

Frame* Delivery::acquire() {
    const auto to = sender();
    // Lossless, it would wait; but then nobody asks without being ready.
    if (!to || (settings_.mode == Mode::lossless && !to->ready())) return nullptr;
    Frame* frame = to->acquire();
    if (frame) ++lent_;
    return frame;
}

void Delivery::release(Frame* frame) {
    const auto to = sender();
    if (!to || !frame) return;
    to->release(frame);
    --lent_;
}

void Delivery::push(Shot* shot) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (ending_ || !started_) {
            shot->consumed = true;
            return;
        }
        queue_.push_back(shot);
    }
    news_.notify_one();
}

/// Under mutex_: queues an event that the daemon shows.
void Delivery::notice(const std::string& reason, Value sentence) {
    if (unsent_.size() < MOST_UNSENT) unsent_.push_back({"notice", {{"reason", Value(reason)}, {"sentence", std::move(sentence)}}});
}

/// What is amiss now, for whoever has not heard it.
void Delivery::repeat_notices() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [reason, sentence] : told_) notice(reason, Value(sentence));
}

void Delivery::tell(const std::string& name, const std::string& sentence) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!told_.emplace(name, sentence).second) return;
        notice(name, Value(sentence));
    }
    log_.line(sentence);
    news_.notify_one();
}

void Delivery::over(const std::string& name) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (told_.erase(name) == 0) return;
        notice(name, Value(nullptr));
    }
    log_.line("That is over: " + name + ".");
    news_.notify_one();
}

bool Delivery::event(const std::string& name, Map data) {
    const auto to = sender();
    return to && to->event(name, game_time_, std::move(data));
}

void Delivery::run() {
    auto retry = std::chrono::steady_clock::now();
    for (;;) {
        Shot* shot = nullptr;
        {
            std::unique_lock<std::mutex> lock(mutex_);
            news_.wait_for(lock, std::chrono::milliseconds(100), [this] { return ending_ || !queue_.empty(); });
            if (ending_) return;
            if (!queue_.empty()) {
                shot = queue_.front();
                queue_.pop_front();
            }
            // A sender that has given up is replaced, for the game runs on; not while somebody holds a frame of it.
            const auto now = std::chrono::steady_clock::now();
            if (!shot && lent_ == 0 && !sender_->failure().empty() && now > retry) {
                retry = now + std::chrono::seconds(RETRY_SECONDS);
                connect();
            }
        }
        obey();
        speak();
        if (!shot) continue;
        deliver(*shot);
        shot->consumed = true;
    }
}

void Delivery::obey() {
    const auto to = sender();
    const bool connected = to->connected();
    if (!connected) {
        wishes.recording = wishes.paused = false;  // nobody is there who could end it
        wishes.steps = 0;
    }
    if (connected && !was_connected_) repeat_notices();
    was_connected_ = connected;
    for (const Control& control : to->controls()) {
        const auto given = [&](const char* name) -> std::optional<bool> {
            for (const auto& [key, value] : control.args) {
                if (key == name && std::holds_alternative<bool>(value)) return std::get<bool>(value);
            }
            return std::nullopt;
        };
        if (control.name == "record_start") {
            wishes.recording = true;
            repeat_notices();  // for the take
        }
        else if (control.name == "record_stop") wishes.recording = false;
        else if (control.name == "hide_hud") wishes.hide_hud = given("on").value_or(!wishes.hide_hud);
        else if (control.name == "pause") wishes.paused = given("on").value_or(!wishes.paused);
        else if (control.name == "step") ++wishes.steps;
        else if (control.name == "dump") wishes.dump = true;
        else continue;
        log_.line("The daemon says: " + control.name + ".");
    }
}

void Delivery::speak() {
    const auto to = sender();
    for (;;) {
        std::pair<std::string, Map> one;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (unsent_.empty()) return;
            one = unsent_.front();
        }
        if (!to->event(one.first, game_time_, one.second)) return;
        const std::lock_guard<std::mutex> lock(mutex_);
        unsent_.pop_front();
    }
}

void Delivery::deliver(Shot& shot) {
    const auto to = sender();
    std::vector<Constants> constants;
    for (std::size_t i = 0; shot.constants.data && i < shot.constant_bytes.size(); ++i) {
        if (shot.constant_bytes[i] == 0) continue;
        constants.push_back({reinterpret_cast<const float*>(shot.constants.data + i * CONSTANT_BYTES), shot.constant_bytes[i] / 4});
    }
    const Match match = matcher_.match(history_.all(), constants, shot.newest);
    if (!match.snapshot) {
        release(shot.frame);
        return;
    }
    if (!match.agrees()) {
        tell("camera_mismatch", "The camera that the game tells is not the one it draws with (" + match.flag() +
             "): the frames are marked desync. Switch off other camera mods.");
    } else {
        over("camera_mismatch");
    }
    fill(shot, match);
    to->submit(shot.frame);
    --lent_;
    if (++frames_ == 1) log_.line("The first frame was sent: " + match.flag() + ".");
}

void Delivery::fill(Shot& shot, const Match& match) {
    const Snapshot& snapshot = *match.snapshot;
    Frame& frame = *shot.frame;
    game_time_ = snapshot.time;
    frame.time = snapshot.time;
    frame.flags = snapshot.flags;
    frame.flags.push_back(match.flag());
    if (!match.agrees()) frame.flags.push_back("desync");
    frame.entities = snapshot.entities;

    Camera full;  // in the pixels of the window
    full.pose = snapshot.camera.pose(match.roll_sign);
    full.near_clip = snapshot.camera.near_clip;
    full.far_clip = snapshot.camera.far_clip;
    full.fx = full.fy = shot.height / 2.0 / std::tan(snapshot.camera.fov * 3.14159265358979323846 / 360);
    full.cx = (shot.width - 1) / 2.0;
    full.cy = (shot.height - 1) / 2.0;
    if (match.lens) {  // what was drawn with, whatever the natives make of aspect ratios
        full.fx = match.lens->fx * shot.width / 2;
        full.fy = match.lens->fy * shot.height / 2;
        full.cx += match.lens->sx * shot.width / 2;
        full.cy -= match.lens->sy * shot.height / 2;
    }
    if (last_pose_) {
        double apart = 0, cosine = 0;
        for (std::size_t row = 0; row < 3; ++row) {
            const double d = full.pose[4 * row + 3] - (*last_pose_)[4 * row + 3];
            apart += d * d;
            cosine += full.pose[4 * row + 1] * (*last_pose_)[4 * row + 1];
        }
        if (apart > CUT_METRES * CUT_METRES || cosine < CUT_COSINE) frame.flags.push_back("cut");
    }
    last_pose_ = full.pose;

    Size size{shot.width / settings_.scale, shot.height / settings_.scale, settings_.scale};
    Camera camera = full;
    const double s = settings_.scale;
    camera.fx /= s;
    camera.fy /= s;
    camera.cx = (full.cx + 0.5) / s - 0.5;
    camera.cy = (full.cy + 0.5) / s - 0.5;
    frame.camera = camera;

    describe(shot, size);
    const auto memory = [&](const char* name) {
        return frame.channel(name, static_cast<std::uint32_t>(size.height), static_cast<std::uint32_t>(size.width));
    };
    if (shot.color.data) {
        if (void* into = memory("color")) write_color(shot.color, size, static_cast<std::uint8_t*>(into));
    }
    if (!shot.depth.data) return;
    if (void* into = memory("depth")) write_depth(shot.depth, size, static_cast<float*>(into));
    if (settings_.segmentation) {
        if (void* into = memory("segmentation")) write_segmentation(shot.depth, size, static_cast<std::uint8_t*>(into));
    }
    if (settings_.normals) {
        normals_.look(shot, full);
        want_targets();
        if (const auto& place = normals_.place()) {
            const Plane& plane = shot.targets[static_cast<std::size_t>(place->target)];
            void* into = plane.data ? memory("normal") : nullptr;
            if (into) write_normals(plane, place->packing, size, static_cast<std::int16_t*>(into));
            over("normals_unknown");
        } else if (normals_.hopeless()) {
            tell("normals_unknown", "None of the G-buffer's targets holds normals as this mod knows them: they are left out, and "
                 "made from depth. Press the dump key and report the build.");
        }
    }
    if (settings_.albedo && shot.targets[0].data) {
        if (void* into = memory("albedo")) write_albedo(shot.targets[0], size, static_cast<std::uint8_t*>(into));
    }
}

/// Announces the channels anew where they are no more what they were.
void Delivery::describe(const Shot& shot, const Size& size) {
    const bool reversed = shot.depth.data ? shot.reversed : reversed_;
    if (shot.rgba == rgba_ && reversed == reversed_) return;
    rgba_ = shot.rgba;
    reversed_ = reversed;
    const std::lock_guard<std::mutex> lock(mutex_);
    session_.channels = channels(settings_, size.width, size.height, rgba_, reversed_);
    sender_->describe(session_.channels);
}

void Delivery::want_targets() {
    wanted_targets_ = (settings_.normals ? normals_.wanted() : 0) | (settings_.albedo ? 1u : 0);
}

}  // namespace realmaster
