#include "script.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>
#include <vector>

namespace realmaster {
namespace {

constexpr std::uint64_t PATIENCE = 300;   // ticks without a present before that is told
constexpr std::uint64_t WORLD_EVERY = 30;  // ticks
constexpr int MOST_HANDLES = 1024;
constexpr int PRESENTS_OF_A_STEP = 4;      // after so many, what was stepped is on the screen, however far behind it is
constexpr double CAMERAS_A_SECOND = 30;    // where there are no frames that could carry them

/// Jenkins's one-at-a-time hash, by which the game knows names (https://en.wikipedia.org/wiki/Jenkins_hash_function).
std::uint32_t hash_of(const char* name) {
    std::uint32_t hash = 0;
    for (; *name; ++name) {
        const char c = *name >= 'A' && *name <= 'Z' ? static_cast<char>(*name - 'A' + 'a') : *name;
        hash += static_cast<unsigned char>(c);
        hash += hash << 10;
        hash ^= hash >> 6;
    }
    hash += hash << 3;
    hash ^= hash >> 11;
    return hash + (hash << 15);
}

std::string hex(std::uint32_t value) {
    char text[16];
    std::snprintf(text, sizeof text, "0x%08X", value);
    return text;
}

std::string weather_name(std::uint32_t hash) {
    for (const char* name : {"CLEAR", "EXTRASUNNY", "CLOUDS", "OVERCAST", "RAIN", "CLEARING", "THUNDER", "SMOG", "FOGGY", "XMAS",
                             "SNOW", "SNOWLIGHT", "BLIZZARD", "HALLOWEEN", "NEUTRAL"}) {
        if (hash_of(name) == hash) return name;
    }
    return hex(hash);
}

}  // namespace

void Script::tick() {
    if (off_) return;
    ++ticks_;
    if (online()) {
        off_ = true;
        pause(false);
        capture_.enabled = false;
        delivery_.tell("online", "A network session has started: this mod is for single player only and has switched itself off "
                       "until the game is restarted.");
        return;
    }
    if (capture_.presents() == 0 && (hook_.enhanced() || !hook_.present_register || ticks_ > PATIENCE)) {
        delivery_.start(1920, 1080, false);
        if (hook_.enhanced()) {
            delivery_.tell("enhanced", "This is the Enhanced edition, which draws with Direct3D 12: there are no pixels, only "
                           "camera and entities. Play the Legacy edition to record pixels.");
        } else if (hook_.present_register) {
            delivery_.tell("no_present", "ScriptHookV does not call at the game's presents: there are no pixels, only camera and "
                           "entities. Install its newest version.");
        }
    } else {
        delivery_.over("no_present");
    }
    look();
    if (delivery_.wishes.hide_hud) {
        natives_.call<void>(Native::hide_hud_and_radar_this_frame);
        natives_.call<void>(Native::thefeed_hide_this_frame);
    }
    if (ticks_ % WORLD_EVERY == 0) tell_world();
    pace();
}

bool Script::online() {
    return natives_.call<bool>(Native::network_is_session_started) || natives_.call<bool>(Native::network_is_in_session);
}

void Script::look() {
    auto made = std::make_shared<Snapshot>();
    made->tick = ticks_;
    made->time = natives_.call<int>(Native::get_game_timer) / 1000.0;
    NativeCamera& camera = made->camera;
    const auto place = natives_.call<NativeVector>(Native::get_final_rendered_cam_coord).values();
    const auto turn = natives_.call<NativeVector>(Native::get_final_rendered_cam_rot, 2).values();
    camera.x = place[0], camera.y = place[1], camera.z = place[2];
    camera.pitch = turn[0], camera.roll = turn[1], camera.yaw = turn[2];
    camera.fov = natives_.call<float>(Native::get_final_rendered_cam_fov);
    camera.near_clip = natives_.call<float>(Native::get_final_rendered_cam_near_clip);
    camera.far_clip = natives_.call<float>(Native::get_final_rendered_cam_far_clip);
    player_ = natives_.call<int>(Native::player_ped_id);
    const std::pair<bool, const char*> flags[] = {
        {natives_.call<bool>(Native::is_pause_menu_active), "menu"},
        {natives_.call<bool>(Native::get_is_loading_screen_active), "loading"},
        {natives_.call<bool>(Native::is_cutscene_active), "cutscene"},
        {player_ != 0 && natives_.call<bool>(Native::is_ped_running_mobile_phone_task, player_), "phone"},
        {!delivery_.wishes.hide_hud, "hud"},
    };
    for (const auto& [set, name] : flags) {
        if (set) made->flags.push_back(name);
    }
    if (!(camera.fov > 1 && camera.fov < 179 && camera.near_clip > 0 && camera.far_clip > camera.near_clip)) return;  // no world yet
    add_entities(*made);
    if (capture_.presents() == 0) send_camera(*made);
    history_.add(made);
}

void Script::add_entities(Snapshot& snapshot) {
    struct Found {
        double away;
        int handle;
        const char* cls;
    };
    std::vector<Found> found;
    static int handles[MOST_HANDLES];
    const std::pair<int (*)(int*, int), const char*> lists[] = {{hook_.all_vehicles, "vehicle"}, {hook_.all_people, "person"}};
    for (const auto& [list, cls] : lists) {
        const int count = list && settings_.entities > 0 ? std::min(list(handles, MOST_HANDLES), MOST_HANDLES) : 0;
        for (int i = 0; i < count; ++i) {
            const auto at = natives_.call<NativeVector>(Native::get_entity_coords, handles[i], 1).values();
            const double away = std::hypot(at[0] - snapshot.camera.x, at[1] - snapshot.camera.y, at[2] - snapshot.camera.z);
            if (away <= settings_.entity_metres) found.push_back({away, handles[i], cls});
        }
    }
    std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.away < b.away; });
    if (found.size() > static_cast<std::size_t>(settings_.entities)) found.resize(static_cast<std::size_t>(settings_.entities));
    for (const Found& one : found) snapshot.entities.push_back(entity(one.handle, one.handle == player_ ? "player" : one.cls));
}

Entity Script::entity(int handle, const char* cls) {
    Entity made;
    made.id = static_cast<std::uint32_t>(handle);
    made.cls = cls;
    NativeVector forward, right, up, at, low, high;
    natives_.call<void>(Native::get_entity_matrix, handle, &forward, &right, &up, &at);
    const auto model = natives_.call<std::uint32_t>(Native::get_entity_model, handle);
    natives_.call<void>(Native::get_model_dimensions, model, &low, &high);
    made.model = hex(model);
    made.velocity = natives_.call<NativeVector>(Native::get_entity_velocity, handle).values();
    const std::array<std::array<double, 3>, 3> axes{right.values(), forward.values(), up.values()};
    const auto l = low.values(), h = high.values(), place = at.values();
    std::array<double, 16> pose{};
    pose[15] = 1;
    std::array<double, 3> size{};
    for (std::size_t row = 0; row < 3; ++row) {
        size[row] = h[row] - l[row];
        pose[4 * row + 3] = place[row];
        for (std::size_t axis = 0; axis < 3; ++axis) {
            pose[4 * row + axis] = axes[axis][row];
            pose[4 * row + 3] += axes[axis][row] * (l[axis] + h[axis]) / 2;  // the middle of the box
        }
    }
    double length = 0;
    for (double v : axes[0]) length += v * v;
    if (std::fabs(length - 1) < 1e-3) made.pose = pose;  // not for one that has just gone
    made.size = size;
    return made;
}

/// Time of day, weather and the player, when they have changed.
void Script::tell_world() {
    char clock[16];
    std::snprintf(clock, sizeof clock, "%02d:%02d", natives_.call<int>(Native::get_clock_hours),
                  natives_.call<int>(Native::get_clock_minutes));
    std::uint64_t now = 0, next = 0, share = 0;
    natives_.call<void>(Native::get_curr_weather_state, &now, &next, &share);
    float part = 0;
    std::memcpy(&part, &share, sizeof part);
    const std::string weather = weather_name(static_cast<std::uint32_t>(now)),
                      coming = weather_name(static_cast<std::uint32_t>(next));
    const int vehicle = player_ ? natives_.call<int>(Native::get_vehicle_ped_is_in, player_, 0) : 0;
    const std::string world = std::string(clock) + weather + coming + std::to_string(vehicle);
    if (world == world_) return;
    const bool told = delivery_.event("world", {{"clock", Value(std::string(clock))}, {"weather", Value(weather)},
                                                {"weather_next", Value(coming)}, {"weather_mix", Value(static_cast<double>(part))},
                                                {"player", Value(static_cast<std::int64_t>(player_))},
                                                {"player_vehicle", Value(static_cast<std::int64_t>(vehicle))}});
    if (told) world_ = world;
}

/// Without pixels there are no frames, so the camera goes as an event, which the take keeps.
void Script::send_camera(const Snapshot& snapshot) {
    if (!delivery_.connected() || snapshot.time - camera_sent_ < 1 / CAMERAS_A_SECOND) return;
    camera_sent_ = snapshot.time;
    const auto numbers = [](const std::array<double, 16>& values) {
        List list;
        for (double value : values) list.push_back(Value(value));
        return Value(list);
    };
    List entities;
    for (const Entity& one : snapshot.entities) {
        Map entity{{"id", Value(static_cast<std::int64_t>(one.id))}, {"cls", Value(one.cls)}, {"model", Value(one.model)}};
        if (one.pose) entity.emplace_back("pose", numbers(*one.pose));
        entities.push_back(Value(entity));
    }
    delivery_.event("camera", {{"game_time", Value(snapshot.time)}, {"pose", numbers(snapshot.camera.pose(1))},
                               {"vfov_degrees", Value(snapshot.camera.fov)}, {"near", Value(snapshot.camera.near_clip)},
                               {"far", Value(snapshot.camera.far_clip)}, {"entities", Value(entities)}});
}

void Script::pause(bool on) {
    if (paused_ == on) return;
    natives_.call<void>(Native::set_game_paused, on ? 1 : 0);
    paused_ = on;
}

/// Stands still or goes on, as the mode and the daemon want it.
void Script::pace() {
    if (settings_.mode != Mode::lossless) {
        // A step lets the game run until the next tick.
        const bool step = delivery_.wishes.paused && delivery_.wishes.steps > 0;
        if (step) --delivery_.wishes.steps;
        pause(delivery_.wishes.paused && !step);
        return;
    }
    switch (step_) {
        case Step::running:  // without a daemon the game is played as ever
            pause(delivery_.connected());
            if (*paused_) step_ = Step::standing;
            break;
        case Step::standing:
            if (!delivery_.connected()) {
                pause(false);
                step_ = Step::running;
            } else if (delivery_.ready() && (!delivery_.wishes.paused || delivery_.wishes.steps > 0)) {
                if (delivery_.wishes.paused) --delivery_.wishes.steps;
                pause(false);
                step_ = Step::stepping;
            }
            break;
        case Step::stepping:  // this is the tick that was stepped
            pause(true);
            capture_.request(PRESENTS_OF_A_STEP);
            step_ = Step::waiting;
            break;
        case Step::waiting:
            if (capture_.taken() || !delivery_.connected()) step_ = Step::standing;
            break;
    }
}

}  // namespace realmaster
