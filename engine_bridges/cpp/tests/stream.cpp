// A bridge that does what its standard input says, one command a line, and answers each with one line of JSON; so a
// test decides what happens when. The pixels follow from the serial: see `fill`.
//
//     start MODE [SECONDS] [tcp]   a sender, with the endpoint and token of the environment or the connection file
//     size H W                     of the frames from now on
//     frames N                     acquire, fill and submit N frames -> how many were acquired
//     hold / submit / release      one frame: acquire and keep it, then hand it over or back
//     late SERIAL                  one frame whose depth is of another frame
//     broken                       one frame whose camera is impossible
//     describe PROJECTION          colour, depth with that projection and unknown scale, and a channel `mask`
//     event NAME                   -> whether a daemon was there
//     status                       -> connected, failure, statistics, controls since the last time
//     close SECONDS                -> the goodbye
#include <cstring>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>

#include "realmaster/sender.hpp"

using namespace realmaster;

namespace {

std::uint32_t height = 48, width = 64;
bool with_mask = false;

void fill(Frame& frame) {
    auto* color = static_cast<std::uint8_t*>(frame.channel("color", height, width));
    for (std::size_t i = 0; i < frame.size("color"); ++i) color[i] = static_cast<std::uint8_t>(31 * frame.serial + i);
    auto* depth = static_cast<float*>(frame.channel("depth", height, width));
    for (std::size_t i = 0; i < std::size_t{height} * width; ++i) depth[i] = 1 + frame.serial + 0.25f * i;
    if (with_mask) {
        void* mask = frame.channel("mask", height, width);
        std::memset(mask, static_cast<int>(frame.serial), frame.size("mask"));
    }
    frame.time = frame.serial / 24.0;
    Camera camera;
    camera.pose[11] = static_cast<double>(frame.serial);
    camera.fx = camera.fy = 50;
    camera.cx = (width - 1) / 2.0;
    camera.cy = (height - 1) / 2.0;
    camera.far_clip = 1e6;
    frame.camera = camera;
    if (frame.serial == 1) {
        frame.flags = {"cut"};
        frame.entities = {{7, "car", "sedan", camera.pose, {{1, 2, 3}}, std::nullopt}};
    }
}

std::vector<Descriptor> channels() {
    return {{"color", "uint8", {height, width, 3}}, {"depth", "float32", {height, width}}};
}

std::string quoted(const std::string& text) { return '"' + text + '"'; }

template <typename T>
std::string or_null(const std::optional<T>& value) {
    return value ? std::to_string(*value) : "null";
}

std::string status(Sender& sender) {
    const Statistics s = sender.statistics();
    std::ostringstream out;
    out << "{\"connected\": " << (sender.connected() ? "true" : "false") << ", \"failure\": " << quoted(sender.failure())
        << ", \"sent\": " << s.sent << ", \"shared\": " << s.shared << ", \"dropped\": " << s.dropped << ", \"lost\": " << s.lost
        << ", \"acknowledged\": " << or_null(s.acknowledged) << ", \"controls\": [";
    const char* comma = "";
    for (const Control& control : sender.controls()) out << std::exchange(comma, ", ") << quoted(control.name);
    out << "]}";
    return out.str();
}

}  // namespace

int main() {
    std::unique_ptr<Sender> sender;
    Frame* held = nullptr;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        std::string command, argument;
        words >> command;
        std::string answer = "null";
        if (command == "start") {
            Session session;
            session.engine = "cpp";
            session.game = "stream";
            session.fps = 24;
            words >> session.mode;
            session.channels = channels();
            Options options;
            options.slots = 4;
            options.connect_timeout = 120;  // a daemon starts slowly on a busy machine
            while (words >> argument) {
                if (argument == "tcp") options.shared_memory = false;
                else options.connect_timeout = std::stod(argument);
            }
            sender = std::make_unique<Sender>(session, options);
        } else if (command == "size") {
            words >> height >> width;
        } else if (command == "frames") {
            int wanted = 0, acquired = 0;
            words >> wanted;
            for (int i = 0; i < wanted; ++i) {
                Frame* frame = sender->acquire();
                if (!frame) continue;
                ++acquired;
                fill(*frame);
                sender->submit(frame);
            }
            answer = std::to_string(acquired);
        } else if (command == "hold") {
            held = sender->acquire();
            if (held) fill(*held);
            answer = held ? "true" : "false";
        } else if (command == "submit") {
            sender->submit(held);
        } else if (command == "release") {
            sender->release(held);
        } else if (command == "late" || command == "broken") {
            std::uint64_t serial = 0;
            words >> serial;
            if (Frame* frame = sender->acquire()) {
                fill(*frame);
                if (command == "late") frame->set_serial("depth", serial);
                else frame->camera->pose[0] = 2;
                sender->submit(frame);
            }
        } else if (command == "describe") {
            words >> argument;
            std::vector<Descriptor> now = channels();
            now[1].projection = argument;
            now[1].scale_unknown = true;
            now.push_back({"mask", "uint8", {height, width}});
            sender->describe(now);
            with_mask = true;
        } else if (command == "event") {
            words >> argument;
            answer = sender->event(argument, 1.5, {{"from", "stream"}, {"n", 3}}) ? "true" : "false";
        } else if (command == "status") {
            answer = status(*sender);
        } else if (command == "close") {
            double seconds = 0;
            words >> seconds;
            if (std::optional<Goodbye> goodbye = sender->close(seconds)) {
                std::ostringstream out;
                out << "{\"received\": " << goodbye->received << ", \"recorded\": " << goodbye->recorded
                    << ", \"dropped\": " << goodbye->dropped << ", \"take\": "
                    << (goodbye->take ? quoted(*goodbye->take) : "null") << "}";
                answer = out.str();
            }
        } else {
            answer = "\"what?\"";
        }
        std::cout << answer << std::endl;
    }
}
