// Threads: any number of callers, one worker. What they share is under `mutex_`, which nobody holds while he waits for
// anything but the two conditions, so a caller never waits for the network. Only the worker touches the sockets, and
// the members that are his alone say so. ZeroMQ reads the frames' memory in place and tells through `sent` when it has
// done so, from a thread of its own.
#include "realmaster/sender.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <new>
#include <random>
#include <utility>

#ifndef _WIN32
#include <csignal>
#endif

#include "checks.hpp"
#include "connection.hpp"
#include "link.hpp"
#include "shared_memory.hpp"
#include "thread.hpp"
#include "wire.hpp"

namespace realmaster {
namespace {

using Clock = std::chrono::steady_clock;
using Channels = std::vector<Descriptor>;

constexpr double never = std::numeric_limits<double>::infinity();
constexpr double token_seconds = 3;      // a daemon that has just started may not have written its file yet
constexpr double retry_seconds = 5;      // live: after a refusal, until the next hello
constexpr double stall_seconds = 120;    // lossless: how long a daemon that is there may return no credit
constexpr double close_grace_seconds = 5;  // for the worker to end after the time to close is over
constexpr std::size_t most_waiting = 256;  // events not yet sent, and controls not yet asked for
constexpr std::size_t alignment = 64;

double now() { return std::chrono::duration<double>(Clock::now().time_since_epoch()).count(); }

std::string random_id() {
    static const char digits[] = "0123456789abcdef";
    std::random_device device;
    std::string id;
    while (id.size() < 32) id += digits[device() & 15];
    return id;
}

std::string seconds_text(double seconds) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", seconds);
    return text;
}

}  // namespace

/// One channel of one frame in the pool: where its pixels are.
struct Buffer {
    unsigned char* data = nullptr;  // in the frame's slot, or in `own`
    std::size_t bytes = 0;
    std::uint32_t height = 0, width = 0;  // 0 while the channel is absent
    std::optional<std::uint64_t> serial;
    std::unique_ptr<unsigned char[]> own;  // kept from frame to frame
    std::size_t capacity = 0;              // bytes in `own`

    /// Memory of our own; false when there is none.
    bool allocate(std::size_t size) {
        if (capacity < size) {
            own.reset(new (std::nothrow) unsigned char[size + alignment]);
            capacity = own ? size : 0;
        }
        if (!own) return false;
        const auto address = reinterpret_cast<std::uintptr_t>(own.get());
        data = own.get() + (alignment - address % alignment) % alignment;
        return true;
    }
};

std::size_t aligned(std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

struct Frame::Impl {
    Sender::Impl* owner = nullptr;
    std::shared_ptr<const Channels> channels;  // as they were when the frame was acquired
    std::vector<Buffer> buffers;               // one per channel
    std::shared_ptr<SharedMemory> memory;      // where its pixels go, if there is a slot for it
    int slot = -1;
    std::size_t used = 0;   // bytes of the slot
    bool in_slot = false;   // every channel is in the slot
    std::uint64_t session = 0;         // the session of which the frame holds a credit; 0: none
    std::uint64_t dropped_before = 0;  // frames dropped since the one before
    std::atomic<int> readers{0};       // messages of ZeroMQ that still read the buffers, and the worker
    // Filled by the worker, kept for their memory.
    std::vector<wire::Part> parts;
    wire::Bytes header;

    Buffer* find(const std::string& name, const Descriptor** descriptor = nullptr) {
        for (std::size_t i = 0; channels && i < channels->size(); ++i) {
            if ((*channels)[i].name != name) continue;
            if (descriptor) *descriptor = &(*channels)[i];
            return &buffers[i];
        }
        return nullptr;
    }
};

namespace {

/// What callers hand to the worker, in order.
struct Item {
    Frame* frame = nullptr;
    std::shared_ptr<const Channels> channels;
    std::optional<wire::Bytes> event;
};

}  // namespace

struct Sender::Impl {
    Impl(Session session, Options options);
    ~Impl();

    // Called by anyone.
    Frame* acquire(std::optional<std::uint64_t> serial);
    void submit(Frame* frame);
    void release(Frame* frame);
    void describe(Channels channels);
    bool event(const std::string& name, double time, const Map& data);
    std::optional<Goodbye> close(double timeout);
    void say(const std::string& sentence) const;
    void complain(const std::string& sentence);

    // The worker's.
    void run();
    void work();
    void receive();
    void hear_news();
    void handle(const std::vector<std::string_view>& parts);
    void refused(const std::string& sentence, double retry_after);
    void say_hello();
    void attach(const wire::Memory& offer);
    void begin_session(const wire::Welcome& welcome);
    void end_session();
    void watch_the_time();
    void take_inbox();
    void process();
    bool process_frame(Frame* frame);
    bool send_frame(Frame* frame);
    void fail(const std::string& sentence);
    int wait_ms() const;

    // Under mutex_ where they say so.
    // Without a free slot there is no credit either: waiting now is better than sending the pixels another way later.
    bool room() const { return !free_.empty() && (!memory_ || memory_->has_free()); }
    void drop(Frame* frame);
    void recycle(Frame* frame);
    std::string frame_problem(const Frame& frame) const;
    static void sent(void* memory, void* frame);

    Session session_;  // as given; its channels are the worker's, and what the next hello announces
    const Options options_;
    std::string endpoint_;
    std::string fixed_token_;  // empty: from the connection file
    double give_up_after_ = never;

    mutable std::mutex mutex_;
    std::condition_variable freed_;  // a frame came back, or the sender failed
    std::condition_variable ended_;  // the worker is done
    std::vector<std::unique_ptr<Frame, void (*)(Frame*)>> pool_;
    std::vector<Frame*> free_;
    std::vector<Item> inbox_;
    std::shared_ptr<const Channels> channels_;
    std::vector<Control> controls_;
    Statistics statistics_;
    std::optional<Goodbye> goodbye_;
    std::string failure_;
    std::string mode_;
    std::uint64_t number_ = 0;  // of the present session, counted from 1; 0: none
    std::uint64_t credit_ = 0;  // frames that may be sent and are not reserved by `acquire`
    std::uint64_t missed_ = 0;  // frames dropped or lost since the last one acquired
    std::shared_ptr<SharedMemory> memory_;  // of the present session
    std::uint64_t next_serial_ = 0;
    bool closing_ = false;
    bool done_ = false;
    double close_by_ = never;
    std::string last_complaint_;

    Link link_;  // the worker's, but for its `wake`

    // The worker's alone.
    std::deque<Item> waiting_;
    wire::Bytes scratch_;
    std::string id_;                      // of the last hello
    std::vector<std::string> announced_;  // channels in the last hello
    std::vector<std::string> declined_;   // those of them that the daemon did not accept
    bool undescribed_ = false;            // the channels changed, and the session has not been told
    bool connected_ = false;
    bool said_bye_ = false;
    bool alone_told_ = false;  // that there is no daemon
    std::uint64_t most_bytes_ = 0;
    std::deque<std::pair<std::shared_ptr<SharedMemory>, int>> in_flight_;  // frames sent whose credit is not back
    std::deque<std::uint64_t> unanswered_;  // serials of those that the daemon is not known to have dealt with
    bool recording_ = false;
    std::uint64_t sessions_ = 0;
    double hello_due_ = never;
    double token_deadline_ = 0;
    double alone_since_ = now();
    double blocked_since_ = never;  // since when a lossless frame has been waiting

    Thread thread_;
};

// -- frames, in the caller's hands

Frame::~Frame() = default;

void* Frame::channel(const std::string& name, std::uint32_t height, std::uint32_t width) {
    const Descriptor* descriptor = nullptr;
    Buffer* buffer = impl_->find(name, &descriptor);
    if (buffer == nullptr) {
        impl_->owner->complain("Channel " + name + " was not announced: name it in the session's channels or describe it.");
        return nullptr;
    }
    const std::size_t components = descriptor->shape.size() == 3 ? descriptor->shape[2] : 1;
    const std::size_t bytes = std::size_t{height} * width * components * wire::dtype_bytes(descriptor->dtype);
    if (height == 0 || width == 0 || height > 16384 || width > 16384) {
        impl_->owner->complain("Channel " + name + " needs sides from 1 to 16384.");
        return nullptr;
    }
    const bool again = buffer->height != 0 && buffer->bytes >= bytes;  // then it stays where it is
    buffer->height = buffer->width = 0;
    if (!again) {
        const std::size_t used = impl_->used;
        if (impl_->memory && aligned(bytes) <= impl_->memory->slot_bytes() - used) {
            buffer->data = impl_->memory->slot(static_cast<std::size_t>(impl_->slot)) + used;
            impl_->used = used + aligned(bytes);
        } else if (buffer->allocate(bytes)) {
            impl_->in_slot = false;
        } else {
            impl_->owner->complain("There is no memory for channel " + name + ": the frame goes without it.");
            return nullptr;
        }
    }
    buffer->bytes = bytes;
    buffer->height = height;
    buffer->width = width;
    return buffer->data;
}

void* Frame::channel(const std::string& name) {
    const Descriptor* descriptor = nullptr;
    const bool known = impl_->find(name, &descriptor) && descriptor->shape.size() >= 2;
    return channel(name, known ? descriptor->shape[0] : 0, known ? descriptor->shape[1] : 0);
}

void Frame::set_serial(const std::string& name, std::uint64_t other) {
    if (Buffer* buffer = impl_->find(name)) buffer->serial = other;
}

std::size_t Frame::size(const std::string& name) const {
    const Buffer* buffer = impl_->find(name);
    return buffer && buffer->height ? buffer->bytes : 0;
}

// -- the caller's side

Sender::Impl::Impl(Session session, Options options) : session_(std::move(session)), options_(std::move(options)) {
    endpoint_ = !options_.endpoint.empty() ? options_.endpoint : environment("REALMASTER_ENDPOINT");
    if (endpoint_.empty()) endpoint_ = default_endpoint;
    fixed_token_ = !options_.token.empty() ? options_.token : environment("REALMASTER_TOKEN");
    mode_ = session_.mode;
    if (options_.shared_memory && SharedMemory::possible()) session_.capabilities.push_back(wire::shared_memory);
    channels_ = std::make_shared<const Channels>(session_.channels);
    for (std::size_t i = 0; i < std::max<std::size_t>(options_.slots, 1); ++i) {
        pool_.emplace_back(new Frame, [](Frame* frame) { delete frame; });
        pool_.back()->impl_ = std::make_unique<Frame::Impl>();
        pool_.back()->impl_->owner = this;
        free_.push_back(pool_.back().get());
    }
    const std::string patience = environment("REALMASTER_GIVE_UP_AFTER");
    char* rest = nullptr;
    if (options_.give_up_after) {
        give_up_after_ = *options_.give_up_after;
    } else if (!patience.empty()) {
        give_up_after_ = std::strtod(patience.c_str(), &rest);
        if (*rest != 0) fail("REALMASTER_GIVE_UP_AFTER is " + patience + ", but must be a number of seconds.");
    }
    if (session_.mode != "live" && session_.mode != "lossless") {
        fail("The mode is " + session_.mode + ", but must be live or lossless.");
    }
    if (endpoint_port(endpoint_) == 0) {
        fail("The endpoint " + endpoint_ + " must have the form tcp://HOST:PORT, as " + default_endpoint + ".");
    }
    if (!failure_.empty()) return;
    if (std::string problem = link_.open(endpoint_); !problem.empty()) {
        fail("ZeroMQ gives no sockets: " + problem + ".");
        return;
    }
#ifndef _WIN32
    sigset_t all, before;  // the game's signals are for the game's threads
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
    try {
        thread_ = Thread([this] { run(); });
    } catch (const std::exception& error) {
        fail(std::string("The sender's thread cannot be started: ") + error.what() + ".");
    }
#ifndef _WIN32
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
}

Sender::Impl::~Impl() {
    close(1);
    if (thread_.joinable()) thread_.join();
    link_.shut();
}

Frame* Sender::Impl::acquire(std::optional<std::uint64_t> serial) {
    std::unique_lock lock(mutex_);
    if (serial && *serial < next_serial_) {
        lock.unlock();
        complain("The engine's frame numbers do not rise: a frame is dropped.");
        return nullptr;
    }
    const std::uint64_t number = serial.value_or(next_serial_);
    next_serial_ = number + 1;
    const auto over = [this] { return closing_ || done_ || !failure_.empty(); };
    if (mode_ == "lossless") freed_.wait(lock, [&] { return room() || over(); });
    const bool ready = mode_ == "lossless" || (number_ != 0 && credit_ > 0);
    if (over() || !ready || free_.empty()) {
        ++statistics_.dropped;
        ++missed_;
        return nullptr;
    }
    Frame* frame = free_.back();
    free_.pop_back();
    Frame::Impl& own = *frame->impl_;
    own.session = 0;
    if (mode_ == "live") {
        own.session = number_;
        --credit_;
    }
    own.dropped_before = std::exchange(missed_, 0);
    if (own.channels != channels_) {
        own.channels = channels_;
        own.buffers.resize(channels_->size());
    }
    for (Buffer& buffer : own.buffers) {
        buffer.height = buffer.width = 0;
        buffer.serial.reset();
    }
    own.slot = memory_ ? memory_->take() : -1;
    own.in_slot = own.slot >= 0;
    own.memory = own.in_slot ? memory_ : nullptr;
    own.used = 0;
    frame->serial = number;
    frame->time = 0;
    frame->camera.reset();
    frame->flags.clear();
    frame->entities.clear();
    frame->capture_time = now();
    return frame;
}

void Sender::Impl::submit(Frame* frame) {
    if (frame == nullptr) return;
    const std::string problem = frame_problem(*frame);
    {
        std::lock_guard lock(mutex_);
        if (!problem.empty() || closing_ || done_) {
            drop(frame);
        } else {
            next_serial_ = std::max(next_serial_, frame->serial + 1);
            inbox_.push_back({frame, nullptr, std::nullopt});
        }
    }
    if (problem.empty()) link_.wake();
    else complain("A frame is dropped: " + problem + ".");
}

void Sender::Impl::release(Frame* frame) {
    if (frame == nullptr) return;
    std::lock_guard lock(mutex_);
    drop(frame);
}

void Sender::Impl::describe(Channels channels) {
    auto shared = std::make_shared<const Channels>(std::move(channels));
    {
        std::lock_guard lock(mutex_);
        channels_ = shared;
        inbox_.push_back({nullptr, std::move(shared), std::nullopt});
    }
    link_.wake();
}

bool Sender::Impl::event(const std::string& name, double time, const Map& data) {
    wire::Bytes bytes;
    wire::encode_event(bytes, name, time, data);
    {
        std::lock_guard lock(mutex_);
        if (number_ == 0 || closing_ || inbox_.size() >= most_waiting) return false;
        inbox_.push_back({nullptr, nullptr, std::move(bytes)});
    }
    link_.wake();
    return true;
}

std::optional<Goodbye> Sender::Impl::close(double timeout) {
    std::unique_lock lock(mutex_);
    if (!closing_) close_by_ = now() + timeout;
    closing_ = true;
    freed_.notify_all();
    lock.unlock();
    link_.wake();
    lock.lock();
    if (thread_.joinable()) {
        // With a bound: on Windows the worker may wait for a lock of the system that the caller holds.
        ended_.wait_for(lock, std::chrono::duration<double>(std::min(timeout, 1e6) + close_grace_seconds), [this] { return done_; });
    }
    return goodbye_;
}

/// What the daemon would refuse, found before it costs the session.
std::string Sender::Impl::frame_problem(const Frame& frame) const {
    if (!std::isfinite(frame.time)) return "its time is not a finite number of seconds";
    if (frame.serial >> 63) return "its serial is beyond 63 bits";
    if (frame.flags.size() > 32) return "it has more than 32 flags";
    const std::vector<Buffer>& buffers = frame.impl_->buffers;
    if (std::none_of(buffers.begin(), buffers.end(), [](const Buffer& b) { return b.height != 0; })) {
        return "it has no channel";
    }
    for (const Entity& entity : frame.entities) {
        if (std::string problem = entity_problem(entity); !problem.empty()) return problem;
    }
    return frame.camera ? camera_problem(*frame.camera, session_.world_axes, session_.camera_axes) : "";
}

void Sender::Impl::say(const std::string& sentence) const {
    if (options_.log) options_.log(sentence);
    else std::fprintf(stderr, "realmaster: %s\n", sentence.c_str());
}

/// Says what is wrong, unless it was the last such sentence.
void Sender::Impl::complain(const std::string& sentence) {
    {
        std::lock_guard lock(mutex_);
        if (sentence == last_complaint_) return;
        last_complaint_ = sentence;
    }
    say(sentence);
}

/// Under mutex_: the frame is not sent after all.
void Sender::Impl::drop(Frame* frame) {
    ++statistics_.dropped;
    missed_ += frame->impl_->dropped_before + 1;
    if (frame->impl_->session != 0 && frame->impl_->session == number_) ++credit_;
    recycle(frame);
}

/// Under mutex_.
void Sender::Impl::recycle(Frame* frame) {
    Frame::Impl& own = *frame->impl_;
    if (own.slot >= 0) own.memory->give_back(std::exchange(own.slot, -1));
    own.memory.reset();
    free_.push_back(frame);  // the last one used is used next: its memory is warm
    freed_.notify_one();
}

// -- the worker

void Sender::Impl::run() {
    try {
        work();
    } catch (const std::exception& error) {
        fail(std::string("The sender stopped: ") + error.what() + ".");
    }
    std::deque<Item> rest;
    rest.swap(waiting_);
    {
        std::lock_guard lock(mutex_);
        for (Item& item : inbox_) rest.push_back(std::move(item));
        inbox_.clear();
        number_ = credit_ = 0;
        for (Item& item : rest) {
            if (item.frame) drop(item.frame);
        }
    }
    link_.shut();  // ZeroMQ gives back every frame that it still reads
    std::lock_guard lock(mutex_);
    done_ = true;
    freed_.notify_all();
    ended_.notify_all();
}

void Sender::Impl::work() {
    while (true) {
        link_.wait(wait_ms());
        // Messages before news of the connection: what the old daemon still said belongs to the old session.
        receive();
        hear_news();
        watch_the_time();
        if (connected_ && now() >= hello_due_) say_hello();
        take_inbox();
        process();
        if (!failure_.empty()) return;
        bool finished = false;
        {
            std::lock_guard lock(mutex_);
            if (closing_) {
                const bool waits = mode_ == "lossless" && !waiting_.empty();
                if ((number_ == 0 && !waits) || now() >= close_by_) return;
                finished = waiting_.empty() && inbox_.empty();
            }
        }
        if (finished && !said_bye_) {
            wire::encode_bye(scratch_);
            said_bye_ = link_.send(scratch_);
        }
    }
}

int Sender::Impl::wait_ms() const {
    double wait = 0.2;
    if (connected_) wait = std::min(wait, hello_due_ - now());
    if (number_ != 0 && !waiting_.empty()) wait = 0.02;  // perhaps ZeroMQ's buffer was full
    std::lock_guard lock(mutex_);
    if (closing_) wait = std::min(wait, 0.02);
    return std::max(0, static_cast<int>(std::ceil(wait * 1000)));
}

void Sender::Impl::receive() {
    for (std::vector<std::string> parts; link_.receive(parts);) handle({parts.begin(), parts.end()});
}

void Sender::Impl::hear_news() {
    while (std::optional<bool> news = link_.news()) {
        const bool had_session = number_ != 0;
        end_session();
        if (connected_) alone_since_ = now();
        connected_ = *news;
        hello_due_ = connected_ ? now() : never;
        token_deadline_ = now() + token_seconds;
        if (had_session && !connected_ && !said_bye_) {
            alone_told_ = true;
            say("The daemon at " + endpoint_ + " is gone: frames wait or are dropped until it is back.");
        }
    }
}

void Sender::Impl::handle(const std::vector<std::string_view>& parts) {
    const wire::Decoded message = wire::decode(parts);
    if (const auto* refusal = std::get_if<wire::Refusal>(&message)) {
        end_session();
        refused("What listens at " + endpoint_ + " is not a realmaster daemon: " + refusal->sentence, retry_seconds);
    } else if (const auto* memory = std::get_if<wire::Memory>(&message)) {
        if (memory->session == id_ && hello_due_ == never && !said_bye_) attach(*memory);
    } else if (const auto* welcome = std::get_if<wire::Welcome>(&message)) {
        if (welcome->session == id_ && hello_due_ == never) begin_session(*welcome);
    } else if (const auto* error = std::get_if<wire::Error>(&message)) {
        const std::string sentence = "The daemon at " + endpoint_ + " refuses: " + error->sentence;
        if (error->code == "no_session") {
            // It forgot us although the connection lives on; not at once, lest two peers argue in a loop.
            end_session();
            hello_due_ = std::min(hello_due_, now() + 0.2);
        } else if (error->code == "token" && fixed_token_.empty() && now() < token_deadline_) {
            end_session();
            hello_due_ = now() + 0.2;
        } else if (error->fatal()) {
            end_session();
            refused(sentence, retry_seconds);
        } else {
            complain(sentence);
        }
    } else if (number_ == 0) {
        // Left over from an earlier session.
    } else if (const auto* credit = std::get_if<wire::Credit>(&message)) {
        std::lock_guard lock(mutex_);
        for (std::uint64_t i = 0; i < credit->n && !in_flight_.empty(); ++i) {
            // The daemon has read the slot of a frame when the credit of that frame or of a later one comes back.
            if (auto& [memory_of_it, slot] = in_flight_.front(); slot >= 0) memory_of_it->give_back(slot);
            in_flight_.pop_front();
            freed_.notify_one();
        }
        credit_ += credit->n;
        if (credit->recorded) statistics_.acknowledged = credit->recorded;
        // While recording a credit says that the daemon has room, and only an acknowledgement that a frame is safe.
        const std::uint64_t released = recording_ ? 0 : std::min<std::uint64_t>(credit->n, unanswered_.size());
        unanswered_.erase(unanswered_.begin(), unanswered_.begin() + static_cast<std::ptrdiff_t>(released));
        while (credit->recorded && !unanswered_.empty() && unanswered_.front() <= *credit->recorded) {
            unanswered_.pop_front();
        }
    } else if (const auto* control = std::get_if<Control>(&message)) {
        if (control->name == "record_start") recording_ = true;
        if (control->name == "record_stop") recording_ = false;
        std::lock_guard lock(mutex_);
        if (controls_.size() >= most_waiting) controls_.erase(controls_.begin());
        controls_.push_back(*control);
    } else if (const auto* goodbye = std::get_if<Goodbye>(&message)) {
        unanswered_.clear();
        {
            std::lock_guard lock(mutex_);
            goodbye_ = *goodbye;
        }
        end_session();
    }
}

/// The session is refused. Live: tell it and try again later. Lossless: fail.
void Sender::Impl::refused(const std::string& sentence, double retry_after) {
    if (session_.mode == "lossless") return fail(sentence);
    complain(sentence);
    hello_due_ = now() + retry_after;
}

void Sender::Impl::say_hello() {
    std::string token = fixed_token_;
    if (token.empty()) {
        const Token found = read_token(endpoint_);
        if (found.value.empty()) {
            hello_due_ = now() + 0.2;
            if (now() >= token_deadline_) refused(found.problem, retry_seconds);
            return;
        }
        token = found.value;
    }
    id_ = random_id();
    wire::encode_hello(scratch_, session_, id_, token);
    if (!link_.send(scratch_)) {
        hello_due_ = now() + 0.1;
        return;
    }
    hello_due_ = never;
    undescribed_ = false;
    announced_.clear();
    for (const Descriptor& descriptor : session_.channels) announced_.push_back(descriptor.name);
}

/// Uses the memory that is offered, and tells the daemon whether we can. Frames that already have a slot of the memory
/// before are sent as parts.
void Sender::Impl::attach(const wire::Memory& offer) {
    std::string problem;
    auto memory = SharedMemory::attach(offer.name, offer.key, offer.slots, offer.slot_bytes, problem);
    wire::encode_attached(scratch_, offer.key, memory ? std::nullopt : std::optional(problem));
    if (!link_.send(scratch_)) return;
    std::lock_guard lock(mutex_);
    memory_ = std::move(memory);
    freed_.notify_all();
}

void Sender::Impl::begin_session(const wire::Welcome& welcome) {
    declined_.clear();
    for (const std::string& name : announced_) {
        if (std::find(welcome.channels.begin(), welcome.channels.end(), name) == welcome.channels.end()) {
            declined_.push_back(name);
        }
    }
    most_bytes_ = welcome.max_frame_bytes;
    blocked_since_ = never;
    if (std::exchange(alone_told_, false)) say("The daemon at " + endpoint_ + " is there now.");
    std::lock_guard lock(mutex_);
    last_complaint_.clear();
    number_ = ++sessions_;
    credit_ = welcome.credit;
    mode_ = welcome.mode;
    goodbye_.reset();
}

void Sender::Impl::end_session() {
    const auto in_flight = std::exchange(in_flight_, {});
    const auto lost = std::exchange(unanswered_, {});
    recording_ = false;
    std::shared_ptr<SharedMemory> memory;  // it is unmapped when nobody waits for the lock
    std::lock_guard lock(mutex_);
    statistics_.lost += lost.size();
    missed_ += lost.size();
    memory.swap(memory_);
    number_ = credit_ = 0;
    mode_ = session_.mode;
    freed_.notify_all();
}

void Sender::Impl::watch_the_time() {
    if (!connected_ && !alone_told_ && now() - alone_since_ > options_.connect_timeout) {
        alone_told_ = true;
        say("No daemon answers at " + endpoint_ + ": start one with `realmaster daemon`.");
    }
    if (!connected_ && now() - alone_since_ > give_up_after_) {
        fail("The daemon at " + endpoint_ + " is gone: start it and the bridge again.");
    } else if (number_ == 0 && now() - blocked_since_ > options_.connect_timeout) {
        fail("No daemon answers at " + endpoint_ + " (waited " + seconds_text(options_.connect_timeout) +
             " s): start one with `realmaster daemon`.");
    } else if (now() - blocked_since_ > stall_seconds) {
        fail("The daemon at " + endpoint_ + " has taken no frame for " + seconds_text(stall_seconds) +
             " seconds: see its log, then restart it.");
    }
}

void Sender::Impl::take_inbox() {
    std::lock_guard lock(mutex_);
    for (Item& item : inbox_) waiting_.push_back(std::move(item));
    inbox_.clear();
}

/// Sends what can be sent, in order.
void Sender::Impl::process() {
    if (!failure_.empty()) return;
    while (true) {
        if (undescribed_ && number_ != 0) {
            wire::encode_channels(scratch_, session_.channels);
            undescribed_ = !link_.send(scratch_);
        }
        if (waiting_.empty()) return;
        Item& item = waiting_.front();
        if (item.channels) {
            session_.channels = *item.channels;
            undescribed_ = true;
        } else if (item.event) {
            if (number_ != 0 && !link_.send(*item.event)) complain("An event was lost: the connection broke.");
        } else if (!process_frame(item.frame)) {
            return;
        }
        waiting_.pop_front();
    }
}

/// False when the frame has to wait: lossless without a session, or without a credit.
bool Sender::Impl::process_frame(Frame* frame) {
    std::unique_lock lock(mutex_);
    Frame::Impl& own = *frame->impl_;
    if (own.session != number_ || number_ == 0) {
        own.session = 0;
        if (number_ != 0 && credit_ > 0) {  // lossless, or acquired in the session before
            own.session = number_;
            --credit_;
        }
    }
    const bool lossless = mode_ == "lossless";
    lock.unlock();
    if (own.session != 0 && !undescribed_ && send_frame(frame)) {
        blocked_since_ = never;
        return true;
    }
    if (lossless) {
        blocked_since_ = std::min(blocked_since_, now());
        return false;
    }
    lock.lock();
    drop(frame);
    return true;
}

/// Hands the frame to ZeroMQ, which reads its memory in place; false when there is no connection or no room.
bool Sender::Impl::send_frame(Frame* frame) {
    Frame::Impl& own = *frame->impl_;
    own.parts.clear();
    const bool in_slot = own.in_slot && own.memory == memory_;  // else it belongs to a memory that is gone
    std::vector<Link::Run> runs;
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < own.buffers.size(); ++i) {
        Buffer& buffer = own.buffers[i];
        const Descriptor& descriptor = (*own.channels)[i];
        if (buffer.height == 0 ||
            std::find(declined_.begin(), declined_.end(), descriptor.name) != declined_.end()) continue;
        std::vector<std::uint32_t> shape{buffer.height, buffer.width};
        if (descriptor.shape.size() == 3) shape.push_back(descriptor.shape[2]);
        own.parts.push_back({descriptor.name, buffer.serial.value_or(frame->serial), descriptor.dtype, shape, {}});
        if (in_slot) {
            const unsigned char* slot = own.memory->slot(static_cast<std::size_t>(own.slot));
            own.parts.back().offset = static_cast<std::uint64_t>(buffer.data - slot);
        }
        runs.push_back({buffer.data, buffer.bytes});
        total += buffer.bytes;
    }
    if (runs.empty() || total > most_bytes_) {
        complain(runs.empty() ? "The daemon takes none of the channels of a frame."
                                 : "A frame of " + std::to_string(total) + " bytes exceeds the " +
                                       std::to_string(most_bytes_) + " that the daemon takes: send a lower resolution.");
        std::lock_guard lock(mutex_);
        drop(frame);
        return true;  // dealt with: it can never be sent
    }
    const std::optional<double> capture_time =
        std::isfinite(frame->capture_time) ? std::optional(frame->capture_time) : std::nullopt;
    wire::encode_frame(own.header, {frame->serial, frame->time, frame->camera, frame->flags, own.dropped_before,
                                    frame->entities, capture_time, own.parts,
                                    in_slot ? std::optional<std::uint64_t>(own.slot) : std::nullopt});
    if (own.header.size() > wire::most_header_bytes) {
        complain("The header of a frame exceeds " + std::to_string(wire::most_header_bytes) +
                 " bytes: send fewer entities.");
        std::lock_guard lock(mutex_);
        drop(frame);
        return true;
    }
    if (in_slot) {
        if (!link_.send(own.header)) return false;
        std::lock_guard lock(mutex_);
        in_flight_.emplace_back(own.memory, std::exchange(own.slot, -1));
        unanswered_.push_back(frame->serial);
        ++statistics_.sent;
        ++statistics_.shared;
        recycle(frame);
        return true;
    }
    own.readers = static_cast<int>(runs.size()) + 1;  // and we
    if (!link_.send(own.header, runs, sent, frame)) return false;
    in_flight_.emplace_back(nullptr, -1);
    unanswered_.push_back(frame->serial);
    {
        std::lock_guard lock(mutex_);
        ++statistics_.sent;
    }
    sent(nullptr, frame);
    return true;
}

/// ZeroMQ has read one part of the frame; called from any thread of its or ours.
void Sender::Impl::sent(void*, void* hint) {
    Frame* frame = static_cast<Frame*>(hint);
    if (frame->impl_->readers.fetch_sub(1) != 1) return;
    Sender::Impl& owner = *frame->impl_->owner;
    std::lock_guard lock(owner.mutex_);
    owner.recycle(frame);
}

void Sender::Impl::fail(const std::string& sentence) {
    {
        std::lock_guard lock(mutex_);
        if (!failure_.empty()) return;
        failure_ = sentence;
        number_ = credit_ = 0;
        freed_.notify_all();
    }
    say(sentence);
}

// -- the public face: nothing is thrown into a game

namespace {

template <typename Result, typename Work>
Result guarded(Work work, Result otherwise) noexcept {
    try {
        return work();
    } catch (...) {
        return otherwise;
    }
}

}  // namespace

Sender::Sender(Session session, Options options) {
    guarded([&] { return impl_ = std::make_unique<Impl>(std::move(session), std::move(options)), true; }, false);
}

Sender::~Sender() = default;

Frame* Sender::acquire() {
    return guarded([&] { return impl_ ? impl_->acquire(std::nullopt) : nullptr; }, static_cast<Frame*>(nullptr));
}

Frame* Sender::acquire(std::uint64_t serial) {
    return guarded([&] { return impl_ ? impl_->acquire(serial) : nullptr; }, static_cast<Frame*>(nullptr));
}

void Sender::submit(Frame* frame) {
    guarded([&] { return impl_ ? impl_->submit(frame), true : false; }, false);
}

void Sender::release(Frame* frame) {
    guarded([&] { return impl_ ? impl_->release(frame), true : false; }, false);
}

void Sender::describe(std::vector<Descriptor> channels) {
    guarded([&] { return impl_ ? impl_->describe(std::move(channels)), true : false; }, false);
}

bool Sender::event(const std::string& name, double time, Map data) {
    return guarded([&] { return impl_ && impl_->event(name, time, data); }, false);
}

std::vector<Control> Sender::controls() {
    return guarded([&] {
        std::vector<Control> arrived;
        if (impl_) {
            std::lock_guard lock(impl_->mutex_);
            arrived.swap(impl_->controls_);
        }
        return arrived;
    }, std::vector<Control>());
}

bool Sender::connected() const {
    if (!impl_) return false;
    std::lock_guard lock(impl_->mutex_);
    return impl_->number_ != 0;
}

bool Sender::ready() const {
    if (!impl_) return false;
    std::lock_guard lock(impl_->mutex_);
    const bool over = impl_->closing_ || impl_->done_ || !impl_->failure_.empty();
    return !over && impl_->number_ != 0 && impl_->credit_ > 0 && impl_->room();
}

std::string Sender::failure() const {
    if (!impl_) return "There is no memory for the sender.";
    std::lock_guard lock(impl_->mutex_);
    return impl_->failure_;
}

Statistics Sender::statistics() const {
    if (!impl_) return {};
    std::lock_guard lock(impl_->mutex_);
    return impl_->statistics_;
}

std::optional<Goodbye> Sender::close(double timeout) {
    return guarded([&] { return impl_ ? impl_->close(timeout) : std::nullopt; }, std::optional<Goodbye>());
}

}  // namespace realmaster
