// Says what the C++ side makes of the test vectors, for a test to compare with what the Python side does:
//
//     realmaster_vectors valid.json invalid.json
//
// One line each: "encoded NAME HEX HEX..." of a message to the daemon, built from the header's plain values;
// "decoded NAME JSON" of a message to the bridge; "refused NAME CODE" of every invalid message, taken by a bridge.
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "json.hpp"
#include "wire.hpp"

using namespace realmaster;

namespace {

Value load(const char* path) {
    std::ifstream file(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    std::optional<Value> value = parse_json(text);
    if (!value) throw std::runtime_error(std::string(path) + " is no JSON");
    return *value;
}

const Value& at(const Value& map, const char* key) {
    const Value* value = find(map, key);
    if (!value) throw std::runtime_error(std::string("no ") + key);
    return *value;
}

bool is_nil(const Value& value) { return std::holds_alternative<std::nullptr_t>(value); }
const List& list(const Value& value) { return std::get<List>(value); }
const std::string& text(const Value& value) { return std::get<std::string>(value); }
std::uint64_t count(const Value& value) { return static_cast<std::uint64_t>(std::get<std::int64_t>(value)); }

double number(const Value& value) {
    if (const auto* words = std::get_if<std::string>(&value); words && *words == "+inf") return INFINITY;
    return std::get<double>(value);
}

std::string text_or_empty(const Value& map, const char* key) {
    const Value* value = find(map, key);
    return value ? text(*value) : "";
}

std::vector<std::string> texts(const Value& value) {
    std::vector<std::string> result;
    for (const Value& item : list(value)) result.push_back(text(item));
    return result;
}

std::vector<std::uint32_t> shape(const Value& value) {
    std::vector<std::uint32_t> sides;
    for (const Value& side : list(value)) sides.push_back(static_cast<std::uint32_t>(count(side)));
    return sides;
}

template <std::size_t size>
std::optional<std::array<double, size>> numbers(const Value& value) {
    if (is_nil(value)) return std::nullopt;
    std::array<double, size> result{};
    for (std::size_t i = 0; i < size; ++i) result[i] = number(list(value).at(i));
    return result;
}

Axes axes(const Value& value) { return {text(at(value, "right")), text(at(value, "up")), text(at(value, "forward"))}; }

std::vector<Descriptor> channels(const Value& value) {
    std::vector<Descriptor> result;
    for (const Value& item : list(value)) {
        Descriptor d;
        d.name = text(at(item, "name"));
        d.dtype = text(at(item, "dtype"));
        d.shape = shape(at(item, "shape"));
        d.rows = text(at(item, "rows"));
        d.order = text_or_empty(item, "order");
        d.kind = text_or_empty(item, "kind");
        if (const Value* scale = find(item, "scale")) {
            d.scale_unknown = std::holds_alternative<std::string>(*scale);
            if (!d.scale_unknown) d.scale = number(*scale);
        }
        if (const Value* baseline = find(item, "baseline")) d.baseline = number(*baseline);
        d.projection = text_or_empty(item, "projection");
        d.space = text_or_empty(item, "space");
        d.encoding = text_or_empty(item, "encoding");
        d.estimated = find(item, "estimated") != nullptr;
        result.push_back(d);
    }
    return result;
}

void encode_hello(wire::Bytes& out, const Value& h) {
    Session session;
    session.engine = text(at(h, "engine"));
    session.game = text(at(h, "game"));
    session.world_axes = axes(at(at(h, "axes"), "world"));
    session.camera_axes = axes(at(at(h, "axes"), "camera"));
    session.metres_per_unit = number(at(h, "metres_per_unit"));
    session.fps = number(at(h, "fps"));
    session.mode = text(at(h, "mode"));
    session.channels = channels(at(h, "channels"));
    for (const auto& [channel, names] : std::get<Map>(at(h, "legend"))) {
        session.legend.emplace_back(channel, decltype(session.legend)::value_type::second_type());
        for (const auto& [id, name] : std::get<Map>(names)) {
            session.legend.back().second.emplace_back(std::stoull(id), text(name));
        }
    }
    session.capabilities = texts(at(h, "capabilities"));
    wire::encode_hello(out, session, text(at(h, "session")), text(at(h, "token")));
}

void encode_frame(wire::Bytes& out, const Value& h) {
    std::optional<Camera> camera;
    if (const Value& c = at(h, "camera"); !is_nil(c)) {
        camera = Camera{*numbers<16>(at(c, "pose")), number(at(c, "fx")), number(at(c, "fy")), number(at(c, "cx")),
                        number(at(c, "cy")), number(at(c, "near")), number(at(c, "far"))};
    }
    std::vector<Entity> entities;
    for (const Value& e : list(at(h, "entities"))) {
        entities.push_back({static_cast<std::uint32_t>(count(at(e, "id"))), text(at(e, "cls")), text(at(e, "model")),
                            numbers<16>(at(e, "pose")), numbers<3>(at(e, "size")), numbers<3>(at(e, "velocity"))});
    }
    std::vector<wire::Part> parts;
    for (const Value& p : list(at(h, "parts"))) {
        const Value *offset = find(p, "offset"), *codec = find(p, "codec");
        parts.push_back({text(at(p, "channel")), count(at(p, "serial")), text(at(p, "dtype")), shape(at(p, "shape")),
                         offset ? std::optional(count(*offset)) : std::nullopt, codec ? std::string_view(text(*codec)) : ""});
    }
    const Value& captured = at(h, "capture_time");
    const Value* slot = find(h, "slot");
    const std::vector<std::string> flags = texts(at(h, "flags"));
    wire::encode_frame(out, {count(at(h, "serial")), number(at(h, "time")), camera, flags, count(at(h, "dropped_before")),
                             entities, is_nil(captured) ? std::nullopt : std::optional(number(captured)), parts,
                             slot ? std::optional(count(*slot)) : std::nullopt});
}

/// Encodes a message to the daemon; false for one to the bridge.
bool encode(wire::Bytes& out, const Value& header) {
    const std::string& type = text(at(header, "type"));
    if (type == "hello") encode_hello(out, header);
    else if (type == "channels") wire::encode_channels(out, channels(at(header, "channels")));
    else if (type == "frame") encode_frame(out, header);
    else if (type == "event") {
        wire::encode_event(out, text(at(header, "name")), number(at(header, "time")), std::get<Map>(at(header, "data")));
    } else if (type == "attached") {
        const Value& problem = at(header, "problem");
        wire::encode_attached(out, text(at(header, "key")), is_nil(problem) ? std::nullopt : std::optional(text(problem)));
    } else if (type == "bye") wire::encode_bye(out);
    else return false;
    return true;
}

std::string hex(std::string_view bytes) {
    std::string result;
    for (unsigned char byte : bytes) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", byte);
        result += digits;
    }
    return result;
}

std::string unhex(const std::string& digits) {
    std::string bytes;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
        bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
    }
    return bytes;
}

wire::Decoded decode(const Value& vector) {
    std::vector<std::string> parts;
    for (const std::string& part : texts(at(vector, "parts"))) parts.push_back(unhex(part));
    return wire::decode({parts.begin(), parts.end()});
}

void print(const Value& value) {
    if (is_nil(value)) std::printf("null");
    else if (const auto* truth = std::get_if<bool>(&value)) std::printf(*truth ? "true" : "false");
    else if (const auto* integer = std::get_if<std::int64_t>(&value)) std::printf("%lld", static_cast<long long>(*integer));
    else if (const auto* real = std::get_if<double>(&value)) std::printf("%.17e", *real);
    else if (const auto* words = std::get_if<std::string>(&value)) {
        std::printf("\"");
        for (unsigned char c : *words) std::printf(c < 0x20 || c == '"' || c == '\\' ? "\\u%04x" : "%c", c);
        std::printf("\"");
    } else if (const auto* items = std::get_if<List>(&value)) {
        std::printf("[");
        for (std::size_t i = 0; i < items->size(); ++i) std::printf(i ? ", " : ""), print((*items)[i]);
        std::printf("]");
    } else {
        std::printf("{");
        const char* comma = "";
        for (const auto& [name, item] : std::get<Map>(value)) {
            std::printf("%s", comma), print(Value(name)), std::printf(": "), print(item);
            comma = ", ";
        }
        std::printf("}");
    }
}

Value integer(std::uint64_t value) { return static_cast<std::int64_t>(value); }

Value plain(const wire::Decoded& message) {
    if (const auto* m = std::get_if<wire::Welcome>(&message)) {
        List names(m->channels.begin(), m->channels.end());
        Map welcome{{"type", "welcome"}, {"session", m->session}, {"channels", names}, {"mode", m->mode},
                    {"credit", integer(m->credit)}, {"max_frame_bytes", integer(m->max_frame_bytes)}};
        if (m->reduction) {
            Map codecs;
            for (const auto& [channel, codec] : m->reduction->codecs) codecs.emplace_back(channel, codec);
            welcome.emplace_back("reduction", Map{{"shrink", integer(m->reduction->shrink)}, {"codecs", codecs}});
        }
        return welcome;
    }
    if (const auto* m = std::get_if<wire::Memory>(&message)) {
        return Map{{"type", "memory"}, {"session", m->session}, {"key", m->key}, {"name", m->name},
                   {"slots", integer(m->slots)}, {"slot_bytes", integer(m->slot_bytes)}};
    }
    if (const auto* m = std::get_if<wire::Credit>(&message)) {
        return Map{{"type", "credit"}, {"n", integer(m->n)}, {"recorded", m->recorded ? integer(*m->recorded) : nullptr}};
    }
    if (const auto* m = std::get_if<Control>(&message)) {
        return Map{{"type", "control"}, {"name", m->name}, {"args", m->args}};
    }
    if (const auto* m = std::get_if<wire::Error>(&message)) {
        return Map{{"type", "error"}, {"code", m->code}, {"sentence", m->sentence}};
    }
    if (const auto* m = std::get_if<Goodbye>(&message)) {
        return Map{{"type", "goodbye"}, {"received", integer(m->received)}, {"recorded", integer(m->recorded)},
                   {"dropped", integer(m->dropped)}, {"take", m->take ? Value(*m->take) : nullptr}};
    }
    return Map{{"type", "refused: " + std::get<wire::Refusal>(message).sentence}};
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 3) throw std::runtime_error("use: realmaster_vectors valid.json invalid.json");
    wire::Bytes bytes;
    const Value valid = load(argv[1]), invalid = load(argv[2]);
    for (const Value& vector : list(valid)) {
        const char* name = text(at(vector, "name")).c_str();
        const std::string& type = text(at(at(vector, "header"), "type"));
        if (type == "probe" || type == "probed") continue;  // for bridges that say they can, and we do not
        if (encode(bytes, at(vector, "header"))) {
            std::printf("encoded %s %s", name, hex(bytes).c_str());
            // The arrays are the caller's memory, sent as it is.
            const List& parts = list(at(vector, "parts"));
            for (std::size_t i = 1; i < parts.size(); ++i) std::printf(" %s", text(parts[i]).c_str());
        } else {
            std::printf("decoded %s ", name);
            print(plain(decode(vector)));
        }
        std::printf("\n");
    }
    for (const Value& vector : list(invalid)) {
        const wire::Decoded message = decode(vector);
        const auto* refusal = std::get_if<wire::Refusal>(&message);
        std::printf("refused %s %s\n", text(at(vector, "name")).c_str(), refusal ? refusal->code.c_str() : "accepted");
    }
    return 0;
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
