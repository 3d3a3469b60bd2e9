#include "json.hpp"

#include <cerrno>
#include <cstdlib>

namespace realmaster {
namespace {

constexpr int deepest = 64;

class Parser {
public:
    explicit Parser(std::string_view text) : text_(text) {}

    std::optional<Value> whole() {
        std::optional<Value> result = value(0);
        skip_space();
        return at_ == text_.size() ? result : std::nullopt;
    }

private:
    std::optional<Value> value(int depth) {
        skip_space();
        if (at_ == text_.size() || depth > deepest) return std::nullopt;
        switch (text_[at_]) {
            case '{': return map(depth);
            case '[': return list(depth);
            case '"': {
                std::optional<std::string> text = string();
                if (!text) return std::nullopt;
                return Value(std::move(*text));
            }
            case 't': return word("true", Value(true));
            case 'f': return word("false", Value(false));
            case 'n': return word("null", Value(nullptr));
            default: return number();
        }
    }

    std::optional<Value> word(std::string_view name, Value meaning) {
        if (text_.substr(at_, name.size()) != name) return std::nullopt;
        at_ += name.size();
        return meaning;
    }

    std::optional<Value> number() {
        std::size_t end = text_.find_first_not_of("+-0123456789.eE", at_);
        std::string digits(text_.substr(at_, end == std::string_view::npos ? end : end - at_));
        if (digits.empty()) return std::nullopt;
        at_ += digits.size();
        char* rest = nullptr;
        errno = 0;
        if (digits.find_first_of(".eE") == std::string::npos) {
            long long integer = std::strtoll(digits.c_str(), &rest, 10);
            if (*rest == 0 && errno == 0) return Value(std::int64_t{integer});
            return std::nullopt;
        }
        double real = std::strtod(digits.c_str(), &rest);
        if (*rest != 0) return std::nullopt;
        return Value(real);
    }

    std::optional<std::string> string() {
        std::string result;
        for (++at_; at_ < text_.size(); ++at_) {
            char c = text_[at_];
            if (c == '"') {
                ++at_;
                return result;
            }
            if (c != '\\') {
                result += c;
                continue;
            }
            if (++at_ == text_.size()) break;
            switch (text_[at_]) {
                case 'b': result += '\b'; break;
                case 'f': result += '\f'; break;
                case 'n': result += '\n'; break;
                case 'r': result += '\r'; break;
                case 't': result += '\t'; break;
                case 'u': {
                    std::optional<std::uint32_t> code = code_point();
                    if (!code) return std::nullopt;
                    append_utf8(result, *code);
                    break;
                }
                default: result += text_[at_];
            }
        }
        return std::nullopt;
    }

    /// The character of an escape \uXXXX, of which `at_` is the u, or of the two that make a surrogate pair.
    std::optional<std::uint32_t> code_point() {
        std::optional<std::uint32_t> first = hex4();
        if (!first || *first < 0xD800 || *first > 0xDFFF) return first;
        if (*first > 0xDBFF || text_.substr(at_ + 1, 2) != "\\u") return std::nullopt;
        at_ += 2;
        std::optional<std::uint32_t> second = hex4();
        if (!second || *second < 0xDC00 || *second > 0xDFFF) return std::nullopt;
        return 0x10000 + ((*first - 0xD800) << 10) + (*second - 0xDC00);
    }

    std::optional<std::uint32_t> hex4() {
        if (at_ + 4 >= text_.size()) return std::nullopt;
        std::string digits(text_.substr(at_ + 1, 4));
        if (digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) return std::nullopt;
        at_ += 4;
        return static_cast<std::uint32_t>(std::strtoul(digits.c_str(), nullptr, 16));
    }

    static void append_utf8(std::string& text, std::uint32_t code) {
        if (code < 0x80) {
            text += static_cast<char>(code);
        } else if (code < 0x800) {
            text += static_cast<char>(0xC0 | code >> 6);
        } else if (code < 0x10000) {
            text += static_cast<char>(0xE0 | code >> 12);
        } else {
            text += static_cast<char>(0xF0 | code >> 18);
            text += static_cast<char>(0x80 | (code >> 12 & 0x3F));
        }
        if (code >= 0x800) text += static_cast<char>(0x80 | (code >> 6 & 0x3F));
        if (code >= 0x80) text += static_cast<char>(0x80 | (code & 0x3F));
    }

    std::optional<Value> list(int depth) {
        List items;
        if (!open(']')) {
            do {
                std::optional<Value> item = value(depth + 1);
                if (!item) return std::nullopt;
                items.push_back(std::move(*item));
            } while (next(','));
            if (!next(']')) return std::nullopt;
        }
        return Value(std::move(items));
    }

    std::optional<Value> map(int depth) {
        Map items;
        if (!open('}')) {
            do {
                skip_space();
                if (at_ == text_.size() || text_[at_] != '"') return std::nullopt;
                std::optional<std::string> key = string();
                if (!key || !next(':')) return std::nullopt;
                std::optional<Value> item = value(depth + 1);
                if (!item) return std::nullopt;
                items.emplace_back(std::move(*key), std::move(*item));
            } while (next(','));
            if (!next('}')) return std::nullopt;
        }
        return Value(std::move(items));
    }

    /// Passes the opening bracket; whether the closing one follows at once.
    bool open(char closing) {
        ++at_;
        return next(closing);
    }

    bool next(char wanted) {
        skip_space();
        if (at_ == text_.size() || text_[at_] != wanted) return false;
        ++at_;
        return true;
    }

    void skip_space() {
        while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

}  // namespace

std::optional<Value> parse_json(std::string_view text) { return Parser(text).whole(); }

const Value* find(const Value& value, std::string_view key) {
    if (const Map* map = std::get_if<Map>(&value)) {
        for (const auto& [name, item] : *map) {
            if (name == key) return &item;
        }
    }
    return nullptr;
}

}  // namespace realmaster
