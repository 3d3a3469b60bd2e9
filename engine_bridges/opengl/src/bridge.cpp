#include "bridge.hpp"

#include <pthread.h>
#include <unistd.h>

#include <cstdlib>
#include <mutex>
#include <unordered_map>

#include "gl_api.hpp"
#include "hooks.hpp"
#include "hotkeys.hpp"
#include "settings.hpp"

namespace realmaster::bridge {

thread_local Recorder* following = nullptr;

namespace {

constexpr double FAREWELL_SECONDS = 3;
constexpr double SLOT_SECONDS = 5;       // how long a lossless frame waits for the conversion of the ones before
constexpr double ABSENCE_SECONDS = 0.3;  // a window that shows nothing for so long gives way to another
constexpr int GLX_WIDTH = 0x801D, GLX_HEIGHT = 0x801E, EGL_HEIGHT = 0x3056, EGL_WIDTH = 0x3057, EGL_DRAW = 0x3059;

using Function = void* (*)();

// One per process; never destroyed, because threads of the game may still draw while the process ends.
struct State {
    std::mutex mutex;  // for recorders and the window
    std::unordered_map<void*, std::unique_ptr<Recorder>> recorders;
    Delivery* delivery = nullptr;
    bool off = false;
    pid_t process = 0;
    void* window = nullptr;  // whose frames are captured
    int window_width = 0, window_height = 0;
    double window_seen = 0;
    double due = 0;  // when the next frame is to be captured
};

State& state() {
    static State* one = new State;
    return *one;
}

// Of the swap between before_swap and after_swap, on this thread.
thread_local Recorder* swapping = nullptr;
thread_local Api swapping_api = Api::glx;
thread_local void *swapping_display = nullptr, *swapping_drawable = nullptr;

void* call(const char* name) {
    auto* function = reinterpret_cast<Function>(hooks::driver_function(name));
    return function == nullptr ? nullptr : function();
}

void* current_context() {
    if (void* context = call("glXGetCurrentContext")) return context;
    return call("eglGetCurrentContext");
}

bool is_current(Api api, void* drawable) {
    if (api == Api::glx) return call("glXGetCurrentDrawable") == drawable;
    static auto* surface = reinterpret_cast<void* (*)(int)>(hooks::driver_function("eglGetCurrentSurface"));
    return surface != nullptr && surface(EGL_DRAW) == drawable;
}

bool size_of(Api api, void* display, void* drawable, int& width, int& height) {
    width = height = 0;
    if (api == Api::egl) {
        static auto* query =
            reinterpret_cast<unsigned (*)(void*, void*, int, int*)>(hooks::driver_function("eglQuerySurface"));
        if (query == nullptr) return false;
        query(display, drawable, EGL_WIDTH, &width);
        query(display, drawable, EGL_HEIGHT, &height);
    } else {
        const auto id = reinterpret_cast<unsigned long>(drawable);
        static auto* query = reinterpret_cast<void (*)(void*, unsigned long, int, unsigned*)>(
            hooks::driver_function("glXQueryDrawable"));
        unsigned size[2] = {0, 0};
        if (query != nullptr) {
            query(display, id, GLX_WIDTH, &size[0]);
            query(display, id, GLX_HEIGHT, &size[1]);
        }
        width = static_cast<int>(size[0]);
        height = static_cast<int>(size[1]);
    }
    return width > 0 && height > 0 && width <= 16384 && height <= 16384;
}

void end() {
    State& all = state();
    if (all.process != getpid() || all.delivery == nullptr) return;
    hotkeys::stop();
    all.delivery->close(FAREWELL_SECONDS);
}

// A child has neither our threads nor the window.
void forked() {
    state().off = true;
    following = nullptr;
}

// The first swap of the process. False: nothing can be done here.
bool start(Api api, void* display, int width, int height) {
    State& all = state();
    gl::load(hooks::driver_function);
    if (gl::GetString == nullptr || gl::ReadPixels == nullptr || gl::GetIntegerv == nullptr ||
        gl::GetError == nullptr) {
        say("error: the functions of OpenGL cannot be found in this game: nothing is captured.");
        return false;
    }
    const auto* version = reinterpret_cast<const char*>(gl::GetString(gl::VERSION));
    const auto* renderer = reinterpret_cast<const char*>(gl::GetString(gl::RENDERER));
    const std::string named = version ? version : "?";
    say((named.rfind("OpenGL", 0) == 0 ? "sees " : "sees OpenGL ") + named + " (" + (renderer ? renderer : "?") +
        "), " + std::to_string(width) + "x" + std::to_string(height) + ".");
    if (!gl::version().es && !gl::version().at_least(1, 4)) {
        say("error: OpenGL is older than 1.4 here, which is too old to capture from: update the graphics driver.");
        return false;
    }
    if (const std::string missing = hooks::load_transport(); !missing.empty()) {
        say("error: " + missing);
        return false;
    }
    all.delivery = new Delivery(width, height);
    std::atexit(end);
    pthread_atfork(nullptr, nullptr, forked);
    hotkeys::start(api == Api::glx ? display : nullptr, [](const char* name) { state().delivery->event(name); });
    return true;
}

// Whether frames of this window are the ones that are captured; the larger one wins, and one that has gone gives way.
bool is_the_window(Api api, void* display, void* drawable) {
    State& all = state();
    const double at = now();
    const std::lock_guard<std::mutex> lock(all.mutex);
    if (drawable == all.window) {
        all.window_seen = at;
        return true;
    }
    int width = 0, height = 0;
    if (!size_of(api, display, drawable, width, height)) return false;
    const bool first = all.window == nullptr, gone = at - all.window_seen > ABSENCE_SECONDS;
    const bool larger =
        static_cast<long long>(width) * height > static_cast<long long>(all.window_width) * all.window_height;
    if (!first && !gone && all.delivery != nullptr) {
        all.delivery->tell("two_windows", "the game shows two windows: frames of the larger one are captured.");
    }
    if (!first && !gone && !larger) return false;
    all.window = drawable;
    all.window_width = width;
    all.window_height = height;
    all.window_seen = at;
    return true;
}

Recorder* recorder_of(void* context, bool make) {
    State& all = state();
    const std::lock_guard<std::mutex> lock(all.mutex);
    const auto known = all.recorders.find(context);
    if (known != all.recorders.end()) return known->second.get();
    if (!make) return nullptr;
    return (all.recorders[context] = std::make_unique<Recorder>(*all.delivery)).get();
}

// Whether a frame is due that begins now.
bool due() {
    State& all = state();
    const double at = now(), fps = settings().fps;
    if (fps <= 0) return true;
    if (at < all.due) return false;
    all.due = all.due + 1 / fps < at ? at : all.due + 1 / fps;
    return true;
}

}  // namespace

void before_swap(Api api, void* display, void* drawable) {
    State& all = state();
    swapping = nullptr;
    following = nullptr;
    if (all.off || !settings().enabled || drawable == nullptr || !is_current(api, drawable)) return;
    if (!is_the_window(api, display, drawable)) return;
    void* context = current_context();
    if (context == nullptr) return;
    if (all.delivery == nullptr) {
        all.process = getpid();
        if (!start(api, display, all.window_width, all.window_height)) {
            all.off = true;
            return;
        }
    }
    swapping = recorder_of(context, true);
    swapping_api = api;
    swapping_display = display;
    swapping_drawable = drawable;
    if (swapping->armed()) {
        int width = 0, height = 0;
        if (size_of(api, display, drawable, width, height)) {
            all.window_width = width;
            all.window_height = height;
            swapping->finish(width, height, all.delivery->time());
        } else {
            swapping->disarm();
        }
    }
    swapping->collect(settings().lossless);
}

void after_swap() {
    Recorder* recorder = swapping;
    swapping = nullptr;
    if (recorder == nullptr || !due()) return;
    State& all = state();
    if (!all.delivery->wanted()) {
        all.delivery->missed();
        return;
    }
    int width = 0, height = 0;
    if (!size_of(swapping_api, swapping_display, swapping_drawable, width, height)) return;
    bool armed = recorder->arm(width, height);
    for (const double deadline = now() + SLOT_SECONDS; !armed && settings().lossless && now() < deadline;) {
        usleep(500);
        recorder->collect(true);
        armed = recorder->arm(width, height);
    }
    if (armed) {
        following = recorder;
    } else {
        all.delivery->missed();
    }
}

Recorder* recorder() {
    State& all = state();
    if (all.off || all.delivery == nullptr) return nullptr;
    void* context = current_context();
    return context == nullptr ? nullptr : recorder_of(context, false);
}

void current_changed() {
    following = nullptr;
    Recorder* now_current = recorder();
    if (now_current != nullptr && now_current->armed()) following = now_current;
}

void context_dies(void* context) {
    State& all = state();
    if (all.off || all.delivery == nullptr) return;
    std::unique_ptr<Recorder> dying;
    {
        const std::lock_guard<std::mutex> lock(all.mutex);
        const auto known = all.recorders.find(context);
        if (known == all.recorders.end()) return;
        dying = std::move(known->second);
        all.recorders.erase(known);
    }
    if (following == dying.get()) following = nullptr;
    if (swapping == dying.get()) swapping = nullptr;
    dying->close(current_context() == context);
}

void vulkan_seen() {
    static bool told = false;
    if (told || state().delivery != nullptr || state().off || !settings().enabled) return;
    told = true;
    say("this game draws with Vulkan, which this bridge does not capture: choose OpenGL in the game's settings.");
}

}  // namespace realmaster::bridge
