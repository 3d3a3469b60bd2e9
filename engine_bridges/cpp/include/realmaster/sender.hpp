// realmaster's sender: how a C++ engine, game mod or preloaded library delivers its frames to the daemon.
//
// Works on memory that the caller fills and on one worker thread that talks to the daemon. Knows nothing of graphics
// APIs. The protocol is described in engine_bridges/PROTOCOL.md; this header names every field as it does.
//
// In mode "live" no call ever waits for the network, a disk or a lock that is held over either. In mode "lossless"
// `acquire` waits until the daemon has taken earlier frames, so that the engine's clock waits too. Nothing here
// throws: what goes wrong is told in one sentence to the log, and `failure` says whether it is final.
//
//     realmaster::Session session;
//     session.engine = "my engine";
//     session.channels = {{"color", "uint8", {720, 1280, 3}}, {"depth", "float32", {720, 1280}}};
//     realmaster::Sender sender(session);
//     while (rendering) {
//         if (realmaster::Frame* frame = sender.acquire()) {          // nullptr: dropped and counted, do not read back
//             frame->time = engine_seconds;
//             frame->camera = camera;
//             read_pixels(frame->channel("color"));                   // memory of the announced size
//             read_depth(frame->channel("depth"));
//             sender.submit(frame);
//         }
//     }
//     sender.close();
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace realmaster {

/// Which signed engine axis points right, up and forward: "+x", "-x", "+y" ... Each letter once; handedness follows.
struct Axes {
    std::string right = "+x";
    std::string up = "-y";
    std::string forward = "+z";
};

inline Axes opencv_axes() { return {"+x", "-y", "+z"}; }   // right-handed; what realmaster uses inside
inline Axes opengl_axes() { return {"+x", "+y", "-z"}; }   // right-handed
inline Axes unity_axes() { return {"+x", "+y", "+z"}; }    // left-handed
inline Axes unreal_axes() { return {"+y", "+z", "+x"}; }   // left-handed
inline Axes blender_axes() { return {"+x", "+z", "+y"}; }  // right-handed: Blender's world, Panda3D, GTA V's world

/// What a channel's numbers mean. The family of a channel is its name up to the first underscore: color (and albedo),
/// depth, normal, motion, segmentation, instance; a channel of another name is recorded as it is. Text that is left
/// empty takes the default of its family.
struct Descriptor {
    std::string name;   // 1 to 32 of a-z 0-9 _, beginning with a letter
    std::string dtype;  // uint8 uint16 uint32 int8 int16 float16 float32; little-endian
    std::vector<std::uint32_t> shape;  // {H, W} or {H, W, components}; H and W may differ from frame to frame
    std::string rows = "top";          // which image row comes first: "top", or "bottom" as OpenGL reads back
    std::string order{};                 // colour: rgb bgr rgba bgra; by default rgb or rgba
    std::string kind{};  // depth: linear ray ndc ndc_reversed log disparity inverse, by default linear
    double scale = 1;  // depth, motion: value = stored number x scale
    bool scale_unknown = false;  // depth, float only: how many metres an engine unit has is not known; scale is unused
    double baseline = 0;         // depth of kind disparity: distance of the eyes in engine units
    std::string projection{};      // depth: where the camera's fx, fy, near and far come from: measured (read from the
                                 // running engine), declared (by the user), default (guessed); empty: the engine's own
    std::string space{};           // normals: camera (default) or world
    std::string encoding{};        // normals: snorm unorm float octahedral; by default as the dtype suggests
    bool estimated = false;        // a model guessed the numbers from the picture; engines leave it
};

/// The camera that rendered a frame, in engine units and axes.
struct Camera {
    /// Camera-to-world, 4x4, row-major, acting on column vectors: world = M camera. The position is elements 3, 7 and
    /// 11 (from 0), the last row 0 0 0 1, the rotation orthonormal. Transpose what comes from row-vector engines.
    std::array<double, 16> pose{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
    double fx = 0;  // focal length in pixels: width / 2 / tan(hfov / 2)
    double fy = 0;  // focal length in pixels: height / 2 / tan(vfov / 2)
    double cx = 0;  // principal point in pixels, (width - 1) / 2 in the middle: pixel (0, 0) is the centre of the first
    double cy = 0;  // likewise, counted in the rows as sent
    double near_clip = 0.1;  // distance along the optical axis, engine units, positive
    double far_clip = std::numeric_limits<double>::infinity();  // greater than near_clip; may be infinite
};

/// A thing in the scene that the engine knows by name; engine units, world axes.
struct Entity {
    std::uint32_t id = 0;  // the number in the `instance` channel
    std::string cls;       // class, "person"
    std::string model;     // the engine's name of model or skin: equal names look alike
    std::optional<std::array<double, 16>> pose;     // entity-to-world, as Camera::pose
    std::optional<std::array<double, 3>> size;      // extent along its own x, y, z
    std::optional<std::array<double, 3>> velocity;  // units per second
};

/// Free details of an event or a control message: nil, booleans, integers, finite numbers, text, lists, maps.
struct Value;
using List = std::vector<Value>;
using Map = std::vector<std::pair<std::string, Value>>;  // in the order in which it is sent
struct Value : std::variant<std::nullptr_t, bool, std::int64_t, double, std::string, List, Map> {
    using variant::variant;
};

/// What holds for the whole session; sent in `hello`.
struct Session {
    std::string engine;            // the engine, "opengl"
    std::string game;              // the game or scene; may be empty
    Axes world_axes;               // by default OpenCV's
    Axes camera_axes;
    double metres_per_unit = 1;    // length of one engine unit in metres; 1 where it is not known
    double fps = 60;               // nominal frames per second of engine time
    std::string mode = "live";     // "live": frames are dropped rather than waited for; "lossless": `acquire` waits
    std::vector<Descriptor> channels;  // everything that frames may carry, 1 to 32
    std::vector<std::pair<std::string, std::vector<std::pair<std::uint64_t, std::string>>>> legend;  // by channel: ids
    std::vector<std::string> capabilities;  // names of the control messages that the caller obeys
};

/// How to reach the daemon; the defaults are right for almost everybody.
struct Options {
    std::string endpoint;  // "tcp://HOST:PORT"; empty: REALMASTER_ENDPOINT, else tcp://127.0.0.1:5790
    std::string token;     // empty: REALMASTER_TOKEN, else the daemon's connection file, read before every hello
    bool shared_memory = true;     // leave pixels in shared memory where the daemon offers it; nothing else differs
    std::size_t slots = 6;         // frames in the pool: being filled, queued, or still read by the network
    double connect_timeout = 10;   // lossless: seconds that a frame waits for a daemon before the sender fails
    std::optional<double> give_up_after;  // seconds without a daemon after which the sender fails; by default
                                          // REALMASTER_GIVE_UP_AFTER, else never
    std::function<void(const std::string& sentence)> log;  // by default stderr; called from any thread, must not throw
};

/// What the daemon asks for: record_start, record_stop (a recording began or ended), replay_save, step, pause,
/// hide_hud, dump. Ignore names that you do not know.
struct Control {
    std::string name;
    Map args;
};

/// What became of the session's frames, from the daemon's side.
struct Goodbye {
    std::uint64_t received = 0;
    std::uint64_t recorded = 0;
    std::uint64_t dropped = 0;
    std::optional<std::string> take;
};

/// What became of the frames of one sender, over all its sessions.
struct Statistics {
    std::uint64_t sent = 0;     // handed to ZeroMQ
    std::uint64_t shared = 0;   // those of them whose pixels went through shared memory
    std::uint64_t dropped = 0;  // not sent: no credit, no free slot or no daemon
    std::uint64_t lost = 0;     // sent, but when the daemon went away neither recorded nor, where nothing was, released
    std::optional<std::uint64_t> acknowledged;  // serial of the last frame that is safely recorded
};

/// One frame of the sender's pool, between `acquire` and `submit` or `release`. Set the fields, fill the channels.
class Frame {
public:
    std::uint64_t serial = 0;      // the engine's frame number, rising; set by `acquire`, may be raised
    double time = 0;               // engine seconds
    std::optional<Camera> camera;  // in the pixels of channel `color`, or of the first channel without one
    std::vector<std::string> flags;   // "cut": the camera jumped; "no_pose": its pose is unknown, given as identity
    std::vector<Entity> entities;
    double capture_time = 0;       // seconds of the monotonic clock when the frame was read back; set by `acquire`

    /// Memory for one channel of this frame, aligned to 64 bytes: height x width x components numbers, C order, no
    /// padding, in the rows and meaning of its descriptor. Channels that are never asked for are absent from the frame.
    /// A second call for the same channel gives it anew, so with another size the contents are lost.
    /// nullptr (and a sentence in the log) for a channel that was not announced, or when there is no memory.
    void* channel(const std::string& name, std::uint32_t height, std::uint32_t width);
    /// Likewise, of the size in the descriptor.
    void* channel(const std::string& name);
    /// Says that a channel was rendered with another frame, so that it is not silently mixed.
    void set_serial(const std::string& name, std::uint64_t serial);
    /// Bytes of a channel that was asked for; 0 for any other.
    std::size_t size(const std::string& name) const;

    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

private:
    Frame() = default;
    ~Frame();
    friend class Sender;
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Sends frames to the daemon; connects, and connects again, by itself. Its methods may be called from any thread.
class Sender {
public:
    /// Starts the worker thread and returns at once, whether there is a daemon or not.
    explicit Sender(Session session, Options options = {});
    /// Closes without waiting for the goodbye for longer than a second.
    ~Sender();

    /// A frame to fill, or nullptr when it could not be sent: then it is counted as dropped, takes a serial and need not
    /// be read back. Live: returns at once. Lossless: waits for room; nullptr only once the sender has failed.
    /// Several may be under way (an asynchronous read-back acquires when it begins and submits when it is done);
    /// submit them in the order of their serials. The sender must outlive them.
    Frame* acquire();
    /// Likewise, with the engine's own frame number, which must rise from call to call.
    Frame* acquire(std::uint64_t serial);
    /// Hands the frame over; returns at once. The pointer is invalid afterwards.
    void submit(Frame* frame);
    /// Gives a frame back that was not filled after all; it is counted as dropped.
    void release(Frame* frame);

    /// From the next frame submitted on these descriptors hold, all of them: a projection found later, a channel that
    /// appears. The take goes on in a new segment.
    void describe(std::vector<Descriptor> channels);
    /// Tells the daemon of an event at engine `time` [s]: marker, cut, record_start, record_stop, record_toggle,
    /// replay_save, or any other name. False when no daemon is there.
    bool event(const std::string& name, double time = 0, Map data = {});
    /// Control messages that arrived since the last call, oldest first.
    std::vector<Control> controls();

    /// Whether the daemon has welcomed the present session.
    bool connected() const;
    /// Whether `acquire` would give a frame now, without waiting, and a daemon take it; asking drops nothing.
    bool ready() const;
    /// The sentence that says why nothing will be sent any more; empty while there is hope.
    std::string failure() const;
    Statistics statistics() const;

    /// Sends what is queued, says bye and waits up to `timeout` seconds for the goodbye.
    std::optional<Goodbye> close(double timeout = 10);

    Sender(const Sender&) = delete;
    Sender& operator=(const Sender&) = delete;

private:
    friend class Frame;
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace realmaster
