#include "wire.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>

#include <msgpack.hpp>

namespace realmaster::wire {
namespace {

constexpr std::size_t most_depth = 8, most_items = 2048, most_text = 4096, most_parts = 32;
constexpr std::uint64_t most_shrink = 8;
constexpr std::string_view codecs[] = {"zstd", "depth", "image", "jpeg"};

/// Bytes of the UTF-8 character at the beginning of `text`; 0 when there is none (RFC 3629: no surrogates, nothing
/// beyond U+10FFFF, no longer forms than needed).
std::size_t character_bytes(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = byte(0);
    if (first < 0x80) return 1;
    const std::size_t size = first >= 0xC2 && first <= 0xDF ? 2 : first >= 0xE0 && first <= 0xEF ? 3
                           : first >= 0xF0 && first <= 0xF4 ? 4 : 0;
    if (size == 0 || text.size() < size) return 0;
    for (std::size_t i = 1; i < size; ++i) {
        if ((byte(i) & 0xC0) != 0x80) return 0;
    }
    const unsigned char second = byte(1);
    const bool wrong = (first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
                       (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F);
    return wrong ? 0 : size;
}

/// Writes msgpack in the form that PROTOCOL.md calls ours: shortest integers and texts, 64-bit floats.
class Writer {
public:
    explicit Writer(Bytes& out) : out_(out), packer_(out) { out.clear(); }

    void map(std::size_t size) { packer_.pack_map(static_cast<std::uint32_t>(size)); }
    void list(std::size_t size) { packer_.pack_array(static_cast<std::uint32_t>(size)); }
    void nil() { packer_.pack_nil(); }
    void boolean(bool value) { value ? packer_.pack_true() : packer_.pack_false(); }
    void integer(std::int64_t value) { packer_.pack_int64(value); }
    void count(std::uint64_t value) { packer_.pack_uint64(value); }

    // The packer's own pack_double writes 1.0 as the integer 1.
    void number(double value) {
        std::uint64_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        char bytes[9] = {static_cast<char>(0xCB)};
        for (int i = 0; i < 8; ++i) bytes[1 + i] = static_cast<char>(bits >> (56 - 8 * i));
        out_.write(bytes, sizeof bytes);
    }

    // Names of games and models come from anywhere; one bad byte must not cost the session.
    void text(std::string_view value) {
        std::string mended;
        for (std::size_t at = 0; at < value.size();) {
            const std::size_t size = character_bytes(value.substr(at));
            if (size == 0 && mended.empty()) mended.assign(value.substr(0, at));
            if (size == 0) mended += '?';
            else if (!mended.empty()) mended.append(value.substr(at, size));
            at += std::max<std::size_t>(size, 1);
        }
        if (!mended.empty()) value = mended;
        packer_.pack_str(static_cast<std::uint32_t>(value.size()));
        packer_.pack_str_body(value.data(), static_cast<std::uint32_t>(value.size()));
    }

    void header(std::string_view type, std::size_t fields) {
        map(2 + fields);
        text("v");
        integer(version);
        text("type");
        text(type);
    }

    void field(std::string_view name, std::string_view value) { text(name), text(value); }
    void field(std::string_view name, double value) { text(name), number(value); }

    template <typename Numbers>
    void numbers(const Numbers& values) {
        list(values.size());
        for (double value : values) number(value);
    }

    template <typename Numbers>
    void optional_numbers(std::string_view name, const std::optional<Numbers>& values) {
        text(name);
        values ? numbers(*values) : nil();
    }

    void texts(std::string_view name, const std::vector<std::string>& values) {
        text(name);
        list(values.size());
        for (const std::string& value : values) text(value);
    }

    void shape(const std::vector<std::uint32_t>& sides) {
        text("shape");
        list(sides.size());
        for (std::uint32_t side : sides) count(side);
    }

    void plain(const Value& value) {
        std::visit([this](const auto& held) { plain(held); }, static_cast<const Value::variant&>(value));
    }
    void plain(std::nullptr_t) { nil(); }
    void plain(bool value) { boolean(value); }
    void plain(std::int64_t value) { integer(value); }
    void plain(double value) { number(value); }
    void plain(const std::string& value) { text(value); }
    void plain(const List& values) {
        list(values.size());
        for (const Value& value : values) plain(value);
    }
    void plain(const Map& values) {
        map(values.size());
        for (const auto& [name, value] : values) text(name), plain(value);
    }

private:
    Bytes& out_;
    msgpack::packer<Bytes> packer_;
};

void write_axes(Writer& w, std::string_view name, const Axes& axes) {
    w.text(name);
    w.map(3);
    w.field("right", axes.right);
    w.field("up", axes.up);
    w.field("forward", axes.forward);
}

/// The descriptor with the defaults of its family filled in; fields of other families are left out.
void write_descriptor(Writer& w, const Descriptor& d) {
    const std::string_view first = std::string_view(d.name).substr(0, d.name.find('_'));
    const bool color = first == "color" || first == "albedo", depth = first == "depth", normal = first == "normal",
               motion = first == "motion", disparity = depth && d.kind == "disparity",
               projection = depth && !d.projection.empty();
    const std::uint32_t components = d.shape.size() == 3 ? d.shape[2] : 1;
    const auto either = [](const std::string& own, std::string_view usual) { return own.empty() ? usual : own; };
    w.map(4 + color + 2 * depth + disparity + projection + 2 * normal + 2 * motion + d.estimated);
    w.field("name", d.name);
    w.field("dtype", d.dtype);
    w.shape(d.shape);
    w.field("rows", either(d.rows, "top"));
    if (color) w.field("order", either(d.order, components == 4 ? "rgba" : "rgb"));
    if (depth || motion) w.field("kind", either(d.kind, depth ? "linear" : "backward_pixels"));
    if (depth && d.scale_unknown) w.field("scale", "unknown");
    else if (depth || motion) w.field("scale", d.scale);
    if (disparity) w.field("baseline", d.baseline);
    if (projection) w.field("projection", d.projection);
    if (normal) {
        const std::string_view natural = d.dtype.rfind("float", 0) == 0 ? "float"
                                       : d.dtype.rfind("u", 0) == 0     ? "unorm" : "snorm";
        w.field("space", either(d.space, "camera"));
        w.field("encoding", either(d.encoding, components == 2 ? "octahedral" : natural));
    }
    if (d.estimated) w.text("estimated"), w.boolean(true);
}

void write_channels(Writer& w, const std::vector<Descriptor>& channels) {
    w.text("channels");
    w.list(channels.size());
    for (const Descriptor& descriptor : channels) write_descriptor(w, descriptor);
}

void write_camera(Writer& w, const Camera& camera) {
    w.map(7);
    w.text("pose");
    w.numbers(camera.pose);
    w.field("fx", camera.fx);
    w.field("fy", camera.fy);
    w.field("cx", camera.cx);
    w.field("cy", camera.cy);
    w.field("near", camera.near_clip);
    w.field("far", camera.far_clip);
}

void write_entity(Writer& w, const Entity& entity) {
    w.map(6);
    w.text("id");
    w.count(entity.id);
    w.field("cls", entity.cls);
    w.field("model", entity.model);
    w.optional_numbers("pose", entity.pose);
    w.optional_numbers("size", entity.size);
    w.optional_numbers("velocity", entity.velocity);
}

}  // namespace

void encode_hello(Bytes& out, const Session& session, std::string_view id, std::string_view token) {
    Writer w(out);
    w.header("hello", 11);
    w.field("session", id);
    w.field("token", token);
    w.field("engine", session.engine);
    w.field("game", session.game);
    w.text("axes");
    w.map(2);
    write_axes(w, "world", session.world_axes);
    write_axes(w, "camera", session.camera_axes);
    w.field("metres_per_unit", session.metres_per_unit);
    w.field("fps", session.fps);
    w.field("mode", session.mode);
    write_channels(w, session.channels);
    w.text("legend");
    w.map(session.legend.size());
    for (const auto& [channel, names] : session.legend) {
        w.text(channel);
        w.map(names.size());
        for (const auto& [id_of_thing, name] : names) w.count(id_of_thing), w.text(name);
    }
    w.texts("capabilities", session.capabilities);
}

void encode_channels(Bytes& out, const std::vector<Descriptor>& channels) {
    Writer w(out);
    w.header("channels", 1);
    write_channels(w, channels);
}

void encode_frame(Bytes& out, const FrameHeader& frame) {
    Writer w(out);
    w.header("frame", frame.slot ? 9 : 8);
    w.text("serial");
    w.count(frame.serial);
    w.field("time", frame.time);
    w.text("camera");
    frame.camera ? write_camera(w, *frame.camera) : w.nil();
    w.texts("flags", frame.flags);
    w.text("dropped_before");
    w.count(frame.dropped_before);
    w.text("entities");
    w.list(frame.entities.size());
    for (const Entity& entity : frame.entities) write_entity(w, entity);
    w.text("capture_time");
    frame.capture_time ? w.number(*frame.capture_time) : w.nil();
    w.text("parts");
    w.list(frame.parts.size());
    for (const Part& part : frame.parts) {
        w.map(4 + (part.offset ? 1 : 0) + (part.codec.empty() ? 0 : 1));
        w.field("channel", part.channel);
        w.text("serial");
        w.count(part.serial);
        w.field("dtype", part.dtype);
        w.shape(part.shape);
        if (part.offset) w.text("offset"), w.count(*part.offset);
        if (!part.codec.empty()) w.field("codec", part.codec);
    }
    if (frame.slot) w.text("slot"), w.count(*frame.slot);
}

void encode_event(Bytes& out, std::string_view name, double time, const Map& data) {
    Writer w(out);
    w.header("event", 3);
    w.field("name", name);
    w.field("time", time);
    w.text("data");
    w.plain(data);
}

void encode_attached(Bytes& out, std::string_view key, const std::optional<std::string>& problem) {
    Writer w(out);
    w.header("attached", 2);
    w.field("key", key);
    w.text("problem");
    problem ? w.text(*problem) : w.nil();
}

void encode_bye(Bytes& out) { Writer(out).header("bye", 0); }

std::size_t dtype_bytes(std::string_view dtype) {
    if (dtype == "uint8" || dtype == "int8") return 1;
    if (dtype == "uint16" || dtype == "int16" || dtype == "float16") return 2;
    if (dtype == "uint32" || dtype == "float32") return 4;
    return 0;
}

bool Error::fatal() const {
    return code != "no_session" && code != "no_credit" && code != "order" && code != "command";
}

namespace {

Refusal malformed(const std::string& what) { return {"malformed", "The message is malformed: " + what + "."}; }

/// Characters in UTF-8 text; nothing when it is none.
std::optional<std::size_t> characters(std::string_view text) {
    std::size_t count = 0;
    for (std::size_t at = 0; at < text.size(); ++count) {
        const std::size_t size = character_bytes(text.substr(at));
        if (size == 0) return std::nullopt;
        at += size;
    }
    return count;
}

/// A name of 1 to 64 printable characters; of what does not print only control characters are found here.
bool is_word(const std::string& text) {
    const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
    const std::size_t length = characters(text).value_or(0);
    return length >= 1 && length <= 64 && std::none_of(text.begin(), text.end(), control);
}

bool is_session(const std::string& text) {
    return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

/// Plain values from msgpack's; throws a Refusal.
Value plain(const msgpack::object& object, std::size_t depth) {
    switch (object.type) {
        case msgpack::type::NIL: return nullptr;
        case msgpack::type::BOOLEAN: return object.via.boolean;
        case msgpack::type::NEGATIVE_INTEGER: return object.via.i64;
        case msgpack::type::POSITIVE_INTEGER:
            if (object.via.u64 >> 63) throw malformed("an integer is beyond 64 bits");
            return static_cast<std::int64_t>(object.via.u64);
        case msgpack::type::FLOAT32:
        case msgpack::type::FLOAT64:
            if (!std::isfinite(object.via.f64)) throw malformed("a number is not finite");
            return object.via.f64;
        case msgpack::type::STR: {
            std::string text(object.via.str.ptr, object.via.str.size);
            const std::optional<std::size_t> length = characters(text);
            if (!length) throw malformed("a text is not UTF-8");
            if (*length > most_text) {
                throw Refusal{"too_large", "A text in the header exceeds " + std::to_string(most_text) + " characters."};
            }
            return text;
        }
        case msgpack::type::ARRAY: {
            if (depth > most_depth) throw malformed("the header is nested too deep");
            List list;
            list.reserve(object.via.array.size);
            for (std::uint32_t i = 0; i < object.via.array.size; ++i) {
                list.push_back(plain(object.via.array.ptr[i], depth + 1));
            }
            return list;
        }
        case msgpack::type::MAP: {
            if (depth > most_depth) throw malformed("the header is nested too deep");
            Map map;
            std::vector<std::string> keys;
            map.reserve(object.via.map.size);
            for (std::uint32_t i = 0; i < object.via.map.size; ++i) {
                const msgpack::object_kv& item = object.via.map.ptr[i];
                Value key = plain(item.key, depth + 1);
                if (!std::holds_alternative<std::string>(key)) throw malformed("a map has a key that is not text");
                keys.push_back(std::get<std::string>(key));
                map.emplace_back(keys.back(), plain(item.val, depth + 1));
            }
            std::sort(keys.begin(), keys.end());
            if (std::adjacent_find(keys.begin(), keys.end()) != keys.end()) throw malformed("a map has a key twice");
            return map;
        }
        default: throw malformed("the header holds a value of a type that is not allowed");
    }
}

/// The fields of one header, each taken exactly once; throws a Refusal.
class Fields {
public:
    Fields(std::string kind, Map values) : kind_(std::move(kind)), values_(std::move(values)) {}

    Value any(const std::string& name) {
        for (auto field = values_.begin(); field != values_.end(); ++field) {
            if (field->first != name) continue;
            Value value = std::move(field->second);
            values_.erase(field);
            return value;
        }
        throw malformed("the " + kind_ + " lacks the field " + name);
    }

    bool has(const std::string& name) const {
        return std::any_of(values_.begin(), values_.end(), [&](const auto& field) { return field.first == name; });
    }

    template <typename T>
    T take(const std::string& name) {
        return as<T>(name, any(name));
    }

    std::uint64_t count(const std::string& name) { return as_count(name, any(name)); }

    std::optional<std::uint64_t> optional_count(const std::string& name) {
        const Value value = any(name);
        if (std::holds_alternative<std::nullptr_t>(value)) return std::nullopt;
        return as_count(name, value);
    }

    std::optional<std::string> optional_text(const std::string& name) {
        const Value value = any(name);
        if (std::holds_alternative<std::nullptr_t>(value)) return std::nullopt;
        return as<std::string>(name, value);
    }

    std::vector<std::string> texts(const std::string& name) {
        std::vector<std::string> result;
        for (const Value& item : take<List>(name)) result.push_back(as<std::string>(name, item));
        return result;
    }

    /// A session's id, or a key.
    std::string hex(const std::string& name) {
        std::string text = take<std::string>(name);
        if (!is_session(text)) throw wrong(name, "is not 32 lower-case hex digits");
        return text;
    }

    std::string word(const std::string& name) {
        std::string text = take<std::string>(name);
        if (!is_word(text)) throw wrong(name, "is not a name of 1 to 64 printable characters");
        return text;
    }

    /// The fields that have not been taken.
    Map rest() { return std::move(values_); }

    void finish() const {
        if (!values_.empty()) throw malformed("the " + kind_ + " has an unknown field " + values_[0].first.substr(0, 40));
    }

    Refusal wrong(const std::string& name, const std::string& what) const {
        return malformed("the field " + name + " of the " + kind_ + " " + what);
    }

private:
    template <typename T>
    T as(const std::string& name, const Value& value) const {
        if (const T* held = std::get_if<T>(&value)) return *held;
        throw wrong(name, "is of the wrong type");
    }

    std::uint64_t as_count(const std::string& name, const Value& value) const {
        const std::int64_t number = as<std::int64_t>(name, value);
        if (number < 0) throw wrong(name, "is negative");
        return static_cast<std::uint64_t>(number);
    }

    std::string kind_;
    Map values_;
};

Decoded read(const std::string& kind, Map values) {
    Fields fields(kind, std::move(values));
    Decoded message;
    if (kind == "welcome") {
        Welcome welcome;
        welcome.session = fields.hex("session");
        welcome.channels = fields.texts("channels");
        welcome.mode = fields.take<std::string>("mode");
        if (welcome.mode != "live" && welcome.mode != "lossless") {
            throw fields.wrong("mode", "is neither live nor lossless");
        }
        welcome.credit = fields.count("credit");
        welcome.max_frame_bytes = fields.count("max_frame_bytes");
        if (fields.has("reduction")) {
            Fields asked("reduction", fields.take<Map>("reduction"));
            Reduction& reduction = welcome.reduction.emplace();
            reduction.shrink = asked.count("shrink");
            if (reduction.shrink < 1 || reduction.shrink > most_shrink) throw asked.wrong("shrink", "is not 1 to 8");
            for (const auto& [channel, codec] : asked.take<Map>("codecs")) {
                const auto* name = std::get_if<std::string>(&codec);
                if (!is_word(channel) || !name || std::find(begin(codecs), end(codecs), *name) == end(codecs)) {
                    throw asked.wrong("codecs", "names a codec that there is not");
                }
                reduction.codecs.emplace_back(channel, *name);
            }
            asked.finish();
        }
        message = std::move(welcome);
    } else if (kind == "memory") {
        Memory memory;
        memory.session = fields.hex("session");
        memory.key = fields.hex("key");
        memory.name = fields.take<std::string>("name");
        memory.slots = fields.count("slots");
        memory.slot_bytes = fields.count("slot_bytes");
        message = std::move(memory);
    } else if (kind == "credit") {
        Credit credit;
        credit.n = fields.count("n");
        credit.recorded = fields.optional_count("recorded");
        message = credit;
    } else if (kind == "control") {
        Control control;
        control.name = fields.word("name");
        control.args = fields.take<Map>("args");
        message = std::move(control);
    } else if (kind == "error") {
        Error error;
        error.code = fields.word("code");
        error.sentence = fields.take<std::string>("sentence");
        message = std::move(error);
    } else if (kind == "goodbye") {
        Goodbye goodbye;
        goodbye.received = fields.count("received");
        goodbye.recorded = fields.count("recorded");
        goodbye.dropped = fields.count("dropped");
        goodbye.take = fields.optional_text("take");
        message = std::move(goodbye);
    } else {
        throw Refusal{"unknown_type", "The message type " + kind.substr(0, 40) + " is not understood here."};
    }
    fields.finish();
    return message;
}

Decoded decode_checked(const std::vector<std::string_view>& parts) {
    if (parts.empty()) return malformed("the message has no header");
    if (parts.size() - 1 > most_parts) return Refusal{"too_large", "The message has too many array parts."};
    const std::string_view header = parts[0];
    if (header.size() > most_header_bytes) return Refusal{"too_large", "The header is too large."};
    std::size_t end = 0;
    const msgpack::unpack_limit limit(most_items, most_items, most_text * 4, 0, 0, 2 * most_depth);
    const msgpack::object_handle handle = msgpack::unpack(header.data(), header.size(), end, nullptr, nullptr, limit);
    const msgpack::object& object = handle.get();
    if (end != header.size()) return malformed("bytes follow the header");
    if (object.type != msgpack::type::MAP) return malformed("the header is not a map");
    Fields head("header", std::get<Map>(plain(object, 1)));
    const std::int64_t its_version = head.take<std::int64_t>("v");
    if (its_version != version) {
        return Refusal{"version", "The message is of protocol version " + std::to_string(its_version) +
                                      ", but this side speaks version " + std::to_string(version) + "."};
    }
    const Value type = head.any("type");
    const std::string kind = std::holds_alternative<std::string>(type) ? std::get<std::string>(type) : "";
    if (parts.size() > 1) return malformed("a message to a bridge has no array parts");
    return read(kind, head.rest());
}

}  // namespace

Decoded decode(const std::vector<std::string_view>& parts) {
    try {
        return decode_checked(parts);
    } catch (const Refusal& refusal) {
        return refusal;
    } catch (const std::exception&) {  // msgpack throws a wide family for broken bytes
        return malformed("the header is not valid msgpack");
    }
}

}  // namespace realmaster::wire
