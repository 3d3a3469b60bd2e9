#include "hotkeys.hpp"

#include <dlfcn.h>
#include <poll.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>

#include "settings.hpp"

namespace realmaster::hotkeys {
namespace {

// The part of Xlib and XInput 2 that is used, as their ABI has it; no X11 headers are needed to build.
struct Cookie {
    int type;
    unsigned long serial;
    int send_event;
    void* display;
    int extension, evtype;
    unsigned cookie;
    void* data;
};
union Event {
    Cookie cookie;
    long pad[24];
};
struct RawEvent {
    int type;
    unsigned long serial;
    int send_event;
    void* display;
    int extension, evtype;
    unsigned long time;
    int deviceid, sourceid, detail, flags;
};
struct Mask {
    int device, length;
    unsigned char* bits;
};

constexpr int GENERIC_EVENT = 35, ALL_MASTER_DEVICES = 1, RAW_KEY_PRESS = 13;

struct X11 {
    void* (*open)(const char*);
    int (*close)(void*);
    char* (*name)(void*);
    int (*descriptor)(void*);
    int (*pending)(void*);
    int (*next)(void*, Event*);
    int (*data)(void*, Cookie*);
    void (*free_data)(void*, Cookie*);
    unsigned long (*root)(void*);
    unsigned long (*keysym)(const char*);
    unsigned char (*keycode)(void*, unsigned long);
    int (*extension)(void*, const char*, int*, int*, int*);
    int (*flush)(void*);
    int (*version)(void*, int*, int*);
    int (*select)(void*, unsigned long, Mask*, int);

    bool load() {
        void* x11 = dlopen("libX11.so.6", RTLD_NOW | RTLD_LOCAL);
        void* xi = dlopen("libXi.so.6", RTLD_NOW | RTLD_LOCAL);
        if (x11 == nullptr || xi == nullptr) return false;
        bool whole = true;
        const auto find = [&whole](void* library, const char* symbol, auto& into) {
            into = reinterpret_cast<std::decay_t<decltype(into)>>(dlsym(library, symbol));
            whole = whole && into != nullptr;
        };
        find(x11, "XOpenDisplay", open);
        find(x11, "XCloseDisplay", close);
        find(x11, "XDisplayString", name);
        find(x11, "XConnectionNumber", descriptor);
        find(x11, "XPending", pending);
        find(x11, "XNextEvent", next);
        find(x11, "XGetEventData", data);
        find(x11, "XFreeEventData", free_data);
        find(x11, "XDefaultRootWindow", root);
        find(x11, "XStringToKeysym", keysym);
        find(x11, "XKeysymToKeycode", keycode);
        find(x11, "XQueryExtension", extension);
        find(x11, "XFlush", flush);
        find(xi, "XIQueryVersion", version);
        find(xi, "XISelectEvents", select);
        return whole;
    }
};

std::atomic<bool> ending{false};
std::thread listener;

void listen(X11 x, std::string where, void (*on_key)(const char*)) {
    void* display = x.open(where.empty() ? nullptr : where.c_str());
    if (display == nullptr) return;
    int opcode = 0, event = 0, error = 0, major = 2, minor = 1;
    if (!x.extension(display, "XInputExtension", &opcode, &event, &error) || x.version(display, &major, &minor) != 0) {
        whisper("the X server has no XInput 2: no keys for takes and replays.");
        x.close(display);
        return;
    }
    const auto code = [&](const std::string& key) -> int {
        if (key == "none") return -1;
        const unsigned long symbol = x.keysym(key.c_str());
        if (symbol == 0) say("there is no key \"" + key + "\" (names are X11's, such as F9).");
        return symbol == 0 ? -1 : x.keycode(display, symbol);
    };
    const int record = code(settings().key_record), replay = code(settings().key_replay);
    unsigned char bits[4] = {0};
    bits[RAW_KEY_PRESS / 8] |= static_cast<unsigned char>(1u << (RAW_KEY_PRESS % 8));
    Mask mask{ALL_MASTER_DEVICES, sizeof bits, bits};
    x.select(display, x.root(display), &mask, 1);
    x.flush(display);
    while (!ending) {
        if (x.pending(display) == 0) {
            pollfd ready{x.descriptor(display), POLLIN, 0};
            poll(&ready, 1, 200);
            if ((ready.revents & (POLLERR | POLLHUP)) != 0) return;  // reading on would end the process, as Xlib does
            continue;
        }
        Event one;
        x.next(display, &one);
        Cookie& cookie = one.cookie;
        if (cookie.type != GENERIC_EVENT || cookie.extension != opcode || !x.data(display, &cookie)) continue;
        if (cookie.evtype == RAW_KEY_PRESS) {
            const int pressed = static_cast<const RawEvent*>(cookie.data)->detail;
            if (pressed == record) on_key("record_toggle");
            if (pressed == replay) on_key("replay_save");
        }
        x.free_data(display, &cookie);
    }
    x.close(display);
}

}  // namespace

void start(void* game, void (*on_key)(const char* event)) {
    const Settings& wanted = settings();
    if ((wanted.key_record == "none" && wanted.key_replay == "none")) return;
    X11 x{};
    if ((game == nullptr && std::getenv("DISPLAY") == nullptr) || !x.load()) return;
    const std::string where = game == nullptr ? std::string() : std::string(x.name(game));
    listener = std::thread(listen, x, where, on_key);
}

void stop() {
    ending = true;
    if (listener.joinable()) listener.join();
}

}  // namespace realmaster::hotkeys
