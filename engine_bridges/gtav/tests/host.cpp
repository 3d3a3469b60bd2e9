// A fake game for Windows: a world that moves, scripts of a (fake) ScriptHookV, and a renderer on a thread of its own that
// is some frames behind, as the game's is. Its truth, what was where in every step, goes to a file.
//
//   host.exe --asi FILE [--truth FILE] [--ticks N] [--size WxH] ...          see `read`
#include <windows.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "renderer.hpp"
#include "scene.hpp"
#include "scripthook.hpp"

namespace {

struct Plan {
    std::string asi, truth, hook = "ScriptHookV.dll";
    std::string start, end;  // files: the world stands still until the one is there, and goes on until the other is
    int ticks = 100, lag = 1, pace_ms = 0, version = 80;
    int width = 640, height = 360;
    int online_at = -1, menu_from = -1, menu_to = -1, cutscene_at = -1, overlay_from = -1, overlay_to = 1 << 30;
    bool present_callback = true, late_pose = false, other_roll = false;
    std::vector<std::pair<int, std::pair<int, int>>> sizes;  // from that tick on
    std::vector<std::pair<int, int>> keys, hides;  // hides: steps that are drawn and not shown
    std::vector<int> reloads, losses;
    scene::Options world;
    RenderOptions render;
} plan;

// What the natives answer from, in the game's thread.
scene::State world, world_before;
bool paused = false, no_radar = false, hide_hud = false;
int ticks = 0, steps = 0, clock_minutes = 14 * 60 + 30;

enum Native : std::uint64_t {
    CAM_COORD = 0xA200EB1EE790F448, CAM_ROT = 0x5B4E4C817FCC2DFB, CAM_FOV = 0x80EC114669DAEFF4,
    CAM_NEAR = 0xD0082607100D7193, CAM_FAR = 0xDFC8CBC606FDB0FC, TIMER = 0x9CD27B0045628463,
    FRAME_COUNT = 0xFC8202EFC642E6F2, HOURS = 0x25223CA6B4D20B7F, MINUTES = 0x13D2B8ADD79640F2,
    SECONDS = 0x494E97C2EF27C470, WEATHER = 0xF3BBE884A14BB413, PLAYER = 0xD80958FC74E988A6,
    PLAYER_VEHICLE = 0x9A9112A0FE9A4713, COORDS = 0x3FEF770D40960D5A, MATRIX = 0xECB2FC7235A7D137,
    MODEL = 0x9F47B058362C84B5, VELOCITY = 0x4805D2B1D8CF94A9, DIMENSIONS = 0x03E8D3D5F549087A,
    PAUSE_MENU = 0xB0034A223497FFCB, LOADING = 0x10D0A8F259E93EC9, CUTSCENE = 0x991251AFC3981F84,
    PHONE = 0x2AFE52F782F25775, SESSION = 0x9DE624D2FC4B603F, IN_SESSION = 0xCA97246103B63917,
    SET_PAUSED = 0x577D1284D6873711, HIDE_HUD = 0x719FF505F097FD20, DISPLAY_HUD = 0xA6294919E56FF02A,
    DISPLAY_RADAR = 0xA0EBB943C300E693, HIDE_FEED = 0x25F87B30C382FCA7,
};

const scene::Box* find(std::uint64_t handle) {
    for (const scene::Box& box : world.boxes) {
        if (box.handle != 0 && static_cast<std::uint64_t>(box.handle) == handle) return &box;
    }
    return nullptr;
}

std::uint64_t bits(float value) {
    std::uint32_t raw;
    std::memcpy(&raw, &value, sizeof raw);
    return raw;
}

void give(std::uint64_t* results, const scene::Vec& v) {
    results[0] = bits(static_cast<float>(v.x));
    results[1] = bits(static_cast<float>(v.y));
    results[2] = bits(static_cast<float>(v.z));
}

void give_at(std::uint64_t pointer, const scene::Vec& v) { give(reinterpret_cast<std::uint64_t*>(pointer), v); }

// Models are named by what they look like: equal boxes have equal models.
std::uint32_t model_of(const scene::Box& box) { return 0xB0000000u + static_cast<std::uint32_t>(box.half.x * 1000); }

bool within(int from, int to) { return from >= 0 && ticks >= from && ticks < to; }

void answer(std::uint64_t hash, const std::uint64_t* arguments, int count, std::uint64_t* results) {
    const scene::State& seen = plan.late_pose ? world_before : world;
    const scene::Camera& camera = seen.camera;
    const scene::Box* box = count > 0 ? find(arguments[0] & 0xFFFFFFFF) : nullptr;
    switch (hash) {
        case CAM_COORD: return give(results, camera.pose.at);
        case CAM_ROT:
            if (count < 1 || arguments[0] != 2) std::fprintf(stderr, "host: the rotation's order is not 2\n");
            return give(results, {camera.pitch, plan.other_roll ? -camera.roll : camera.roll, camera.yaw});
        case CAM_FOV: results[0] = bits(static_cast<float>(camera.fov)); return;
        case CAM_NEAR: results[0] = bits(static_cast<float>(camera.near_clip)); return;
        case CAM_FAR: results[0] = bits(static_cast<float>(camera.far_clip)); return;
        case TIMER: results[0] = static_cast<std::uint64_t>(seen.step * 40); return;
        case FRAME_COUNT: results[0] = static_cast<std::uint64_t>(ticks); return;
        case HOURS: results[0] = static_cast<std::uint64_t>(clock_minutes / 60); return;
        case MINUTES: results[0] = static_cast<std::uint64_t>(clock_minutes % 60); return;
        case SECONDS: results[0] = 0; return;
        case WEATHER:
            *reinterpret_cast<std::uint64_t*>(arguments[0]) = 0x97AA0A79;  // EXTRASUNNY
            *reinterpret_cast<std::uint64_t*>(arguments[1]) = 0x36A83D84;  // CLEAR
            *reinterpret_cast<float*>(arguments[2]) = 0.25f;
            return;
        case PLAYER:
            for (const scene::Box& one : world.boxes) {
                if (one.stencil == 129) results[0] = static_cast<std::uint64_t>(one.handle);
            }
            return;
        case COORDS: if (box) give(results, box->pose.at); return;
        case MATRIX:
            if (!box) return;
            give_at(arguments[1], box->pose.forward);
            give_at(arguments[2], box->pose.right);
            give_at(arguments[3], box->pose.up);
            return give_at(arguments[4], box->pose.at);
        case MODEL: if (box) results[0] = model_of(*box); return;
        case VELOCITY: if (box) give(results, box->velocity); return;
        case DIMENSIONS:
            for (const scene::Box& one : world.boxes) {
                if (one.handle == 0 || model_of(one) != (arguments[0] & 0xFFFFFFFF)) continue;
                give_at(arguments[1], {-one.half.x, -one.half.y, -one.half.z});
                give_at(arguments[2], one.half);
            }
            return;
        case PAUSE_MENU: results[0] = within(plan.menu_from, plan.menu_to); return;
        case CUTSCENE: results[0] = within(plan.cutscene_at, 1 << 30); return;
        case SESSION: case IN_SESSION: results[0] = within(plan.online_at, 1 << 30); return;
        case SET_PAUSED: paused = arguments[0] & 1; return;
        case HIDE_HUD: hide_hud = true; return;
        case DISPLAY_RADAR: no_radar = !(arguments[0] & 1); return;
        default: return;
    }
}

int everything(int kind, int* handles, int most) {
    int count = 0;
    for (const scene::Box& box : world.boxes) {
        if (box.kind == kind && count < most) handles[count++] = box.handle;
    }
    return count;
}

HMODULE load(const std::string& path) {
    HMODULE module = LoadLibraryA(path.c_str());
    if (!module) {
        std::fprintf(stderr, "host: %s cannot be loaded (%lu)\n", path.c_str(), GetLastError());
        std::exit(3);
    }
    return module;
}

/// What the renderer is told of one tick.
struct Order {
    scene::State state;
    bool lost = false;     // the device is, before that
    bool overlay = false;  // there is another program that hooks Direct3D
};

// The renderer, on its own thread: takes orders in turn.
class RenderThread {
public:
    explicit RenderThread(HWND window) : window_(window), thread_([this] { run(); }) {}

    void push(const Order& order) {
        std::unique_lock<std::mutex> lock(mutex_);
        room_.wait(lock, [this] { return static_cast<int>(queue_.size()) < std::max(1, plan.lag); });
        queue_.push_back(order);
        news_.notify_one();
        if (plan.lag == 0) room_.wait(lock, [this] { return queue_.empty(); });
    }

    void join() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            over_ = true;
        }
        news_.notify_one();
        thread_.join();
    }

    double seconds = 0;

private:
    void run() {
        Renderer* renderer = nullptr;
        int width = 0, height = 0;
        LARGE_INTEGER frequency, from, to;
        QueryPerformanceFrequency(&frequency);
        for (;;) {
            Order next;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                news_.wait(lock, [this] { return over_ || !queue_.empty(); });
                if (queue_.empty()) break;
                next = queue_.front();
            }
            const scene::State& state = next.state;
            if (next.lost) {
                delete renderer;
                renderer = nullptr;
            }
            if (!renderer) renderer = new Renderer(window_, state.width, state.height, plan.render);
            else if (state.width != width || state.height != height) renderer->resize(state.width, state.height);
            width = state.width;
            height = state.height;
            overlay(next.overlay, renderer->context());
            QueryPerformanceCounter(&from);
            renderer->draw(state);
            const bool shown = !hidden(state.step);
            if (shown && plan.present_callback) fake_present(renderer->swap_chain());
            if (shown) renderer->present();
            QueryPerformanceCounter(&to);
            seconds += static_cast<double>(to.QuadPart - from.QuadPart) / static_cast<double>(frequency.QuadPart);
            const std::lock_guard<std::mutex> lock(mutex_);
            queue_.pop_front();
            room_.notify_one();
        }
        delete renderer;
    }

    static bool hidden(int step) {
        return std::any_of(plan.hides.begin(), plan.hides.end(),
                           [&](const auto& hide) { return step >= hide.first && step < hide.second; });
    }

    /// Another program that hooks Direct3D comes, or goes.
    void overlay(bool there, ID3D11DeviceContext* context) {
        if (there == overlay_there_) return;
        overlay_there_ = there;
        HMODULE module = load("overlay.dll");
        if (there) reinterpret_cast<void (*)(void*)>(GetProcAddress(module, "overlay_comes"))(context);
        else reinterpret_cast<void (*)()>(GetProcAddress(module, "overlay_goes"))();
    }

    HWND window_;
    std::mutex mutex_;
    std::condition_variable news_, room_;
    std::deque<Order> queue_;
    bool over_ = false, overlay_there_ = false;
    std::thread thread_;
};

std::pair<int, int> pair_of(const std::string& text, char between) {
    const std::size_t at = text.find(between);
    return {std::atoi(text.c_str()), at == std::string::npos ? 0 : std::atoi(text.c_str() + at + 1)};
}

void read(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        const std::string name = argv[i];
        const auto value = [&]() -> std::string {
            if (++i >= argc) std::exit(2);
            return argv[i];
        };
        if (name == "--asi") plan.asi = value();
        else if (name == "--hook") plan.hook = value();  // "" for none
        else if (name == "--truth") plan.truth = value();
        else if (name == "--ticks") plan.ticks = std::atoi(value().c_str());
        else if (name == "--start") plan.start = value();
        else if (name == "--end") plan.end = value();
        else if (name == "--size") std::tie(plan.width, plan.height) = pair_of(value(), 'x');
        else if (name == "--lag") plan.lag = std::atoi(value().c_str());
        else if (name == "--pace") plan.pace_ms = std::atoi(value().c_str());
        else if (name == "--seed") plan.world.seed = static_cast<unsigned>(std::atoi(value().c_str()));
        else if (name == "--roll") plan.world.roll_degrees = std::atof(value().c_str());
        else if (name == "--other-roll") plan.other_roll = true;
        else if (name == "--still") plan.world.still = 1;
        else if (name == "--late") plan.render.late = value();  // color, depth or pose
        else if (name == "--samples") plan.render.samples = std::atoi(value().c_str());
        else if (name == "--scale") plan.render.scale = std::atof(value().c_str());
        else if (name == "--wrong-depth") plan.render.wrong_depth = true;
        else if (name == "--decoy") plan.render.decoy = true;
        else if (name == "--ambiguous") plan.render.ambiguous = true;
        else if (name == "--passes") plan.render.passes = std::atoi(value().c_str());
        else if (name == "--hide-matrices") plan.render.hide_matrices = true;
        else if (name == "--reuse-normals") plan.render.reuse_normals = true;
        else if (name == "--clear-again") plan.render.clear_again = true;
        else if (name == "--format") plan.render.window_format = static_cast<DXGI_FORMAT>(std::atoi(value().c_str()));
        else if (name == "--window-samples") plan.render.window_samples = std::atoi(value().c_str());
        else if (name == "--resize") {  // TICK:WxH
            const std::string text = value();
            const std::size_t at = text.find(':');
            plan.sizes.push_back({std::atoi(text.c_str()), pair_of(text.substr(at + 1), 'x')});
        } else if (name == "--key") plan.keys.push_back(pair_of(value(), ':'));  // TICK:CODE
        else if (name == "--reload") plan.reloads.push_back(std::atoi(value().c_str()));
        else if (name == "--lose") plan.losses.push_back(std::atoi(value().c_str()));  // the device
        else if (name == "--online") plan.online_at = std::atoi(value().c_str());
        else if (name == "--menu") std::tie(plan.menu_from, plan.menu_to) = pair_of(value(), ':');
        else if (name == "--hidden") plan.hides.push_back(pair_of(value(), ':'));  // alt-tab
        else if (name == "--overlay") std::tie(plan.overlay_from, plan.overlay_to) = pair_of(value(), ':');
        else if (name == "--cutscene") plan.cutscene_at = std::atoi(value().c_str());
        else if (name == "--enhanced") plan.version = 1003, plan.present_callback = false;
        else {
            std::fprintf(stderr, "host: no such option: %s\n", name.c_str());
            std::exit(2);
        }
    }
    if (plan.render.late == "pose") {
        plan.late_pose = plan.render.hide_matrices = true;
        plan.render.late.clear();
    }
}

bool there(const std::string& path) { return GetFileAttributesA(path.c_str()) != INVALID_FILE_ATTRIBUTES; }

void unload(HMODULE asi) {
    FreeLibrary(asi);
    if (GetModuleHandleA(plan.asi.c_str())) std::fprintf(stderr, "host: the .asi did not unload\n");
}

void pump() {
    MSG message;
    while (PeekMessageW(&message, nullptr, 0, 0, PM_REMOVE)) DispatchMessageW(&message);
}

}  // namespace

// The fake's own names; found at run time, so that the host starts without it.
namespace {
decltype(&::fake_answers) answers_of = nullptr;
decltype(&::fake_version) version_of = nullptr;
decltype(&::fake_tick) tick_of = nullptr;
decltype(&::fake_present) present_of = nullptr;
decltype(&::fake_key) key_of = nullptr;

template <typename T>
void resolve(HMODULE module, const char* name, T& into) {
    into = reinterpret_cast<T>(reinterpret_cast<void*>(GetProcAddress(module, name)));
}
}  // namespace

void fake_present(void* swap_chain) {
    if (present_of) present_of(swap_chain);
}

int main(int argc, char** argv) {
    read(argc, argv);
    if (!plan.hook.empty()) {
        HMODULE hook = load(plan.hook);
        resolve(hook, "fake_answers", answers_of);
        resolve(hook, "fake_version", version_of);
        resolve(hook, "fake_tick", tick_of);
        resolve(hook, "fake_present", present_of);
        resolve(hook, "fake_key", key_of);
        answers_of(answer, everything);
        version_of(plan.version);
    }
    WNDCLASSW kind{};
    kind.lpfnWndProc = DefWindowProcW;
    kind.hInstance = GetModuleHandleW(nullptr);
    kind.lpszClassName = L"fake game";
    RegisterClassW(&kind);
    HWND window = CreateWindowExW(0, kind.lpszClassName, L"fake game", WS_POPUP | WS_VISIBLE, 0, 0, plan.width, plan.height,
                                  nullptr, nullptr, kind.hInstance, nullptr);
    HMODULE asi = plan.asi.empty() ? nullptr : load(plan.asi);
    std::FILE* truth = plan.truth.empty() ? nullptr : std::fopen(plan.truth.c_str(), "wb");
    int width = plan.width, height = plan.height, written = -1;
    world = world_before = scene::at(0, plan.world);
    RenderThread render(window);
    bool started = plan.start.empty();
    for (ticks = 0; ticks < plan.ticks || !(plan.end.empty() || there(plan.end)); ticks += started) {
        pump();
        started = started || there(plan.start);
        for (const auto& [at, size] : plan.sizes) {
            if (at != ticks) continue;
            std::tie(width, height) = size;
            SetWindowPos(window, nullptr, 0, 0, width, height, SWP_NOZORDER);
        }
        if (std::count(plan.reloads.begin(), plan.reloads.end(), ticks)) {
            unload(asi);
            asi = load(plan.asi);
        }
        if (started && !paused) {
            world_before = world;
            world = scene::at(steps++, plan.world);
        }
        world.width = width;
        world.height = height;
        hide_hud = false;
        if (tick_of) tick_of();
        world.hud = !hide_hud && !no_radar;
        if (key_of) {
            for (const auto& [at, code] : plan.keys) {
                if (at != ticks) continue;
                key_of(static_cast<DWORD>(code), FALSE);
                key_of(static_cast<DWORD>(code), TRUE);
            }
        }
        if (truth && world.step != written) {
            std::fprintf(truth, "%s\n", scene::describe(world).c_str());
            std::fflush(truth);
            written = world.step;
        }
        const bool lost = std::count(plan.losses.begin(), plan.losses.end(), ticks) != 0;
        render.push({world, lost, within(plan.overlay_from, plan.overlay_to)});
        if (plan.pace_ms) Sleep(static_cast<DWORD>(plan.pace_ms));
    }
    render.join();
    if (truth) std::fclose(truth);
    if (asi) unload(asi);
    std::printf("{\"ticks\": %d, \"steps\": %d, \"frame_ms\": %.3f}\n", ticks, steps, 1000 * render.seconds / std::max(1, ticks));
    std::fflush(stdout);
    // All that is tested is over. The usual way out runs the exit handlers of OpenGL's driver beside its threads, and under
    // Wine, on a busy machine, it crashes there once in some hundred times, or never ends.
    TerminateProcess(GetCurrentProcess(), 0);
    return 0;
}
