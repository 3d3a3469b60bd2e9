// The game's natives that are used, by their original hashes, which ScriptHookV translates for every build
// (https://github.com/alloc8or/gta5-nativedb-data). To be called inside the script thread only.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "script_hook.hpp"

namespace realmaster {

enum class Native : std::uint64_t {
    get_final_rendered_cam_coord = 0xA200EB1EE790F448,
    get_final_rendered_cam_rot = 0x5B4E4C817FCC2DFB,
    get_final_rendered_cam_fov = 0x80EC114669DAEFF4,
    get_final_rendered_cam_near_clip = 0xD0082607100D7193,
    get_final_rendered_cam_far_clip = 0xDFC8CBC606FDB0FC,
    get_game_timer = 0x9CD27B0045628463,
    get_clock_hours = 0x25223CA6B4D20B7F,
    get_clock_minutes = 0x13D2B8ADD79640F2,
    get_curr_weather_state = 0xF3BBE884A14BB413,
    player_ped_id = 0xD80958FC74E988A6,
    get_vehicle_ped_is_in = 0x9A9112A0FE9A4713,
    get_entity_coords = 0x3FEF770D40960D5A,
    get_entity_matrix = 0xECB2FC7235A7D137,
    get_entity_model = 0x9F47B058362C84B5,
    get_entity_velocity = 0x4805D2B1D8CF94A9,
    get_model_dimensions = 0x03E8D3D5F549087A,
    is_pause_menu_active = 0xB0034A223497FFCB,
    get_is_loading_screen_active = 0x10D0A8F259E93EC9,
    is_cutscene_active = 0x991251AFC3981F84,
    is_ped_running_mobile_phone_task = 0x2AFE52F782F25775,
    network_is_session_started = 0x9DE624D2FC4B603F,
    network_is_in_session = 0xCA97246103B63917,
    set_game_paused = 0x577D1284D6873711,
    hide_hud_and_radar_this_frame = 0x719FF505F097FD20,
    thefeed_hide_this_frame = 0x25F87B30C382FCA7,
};

/// Three floats, each padded to eight bytes, as natives take and give them.
struct NativeVector {
    struct {
        float value = 0;
        std::uint32_t padding = 0;
    } numbers[3];

    std::array<double, 3> values() const { return {numbers[0].value, numbers[1].value, numbers[2].value}; }
};

class Natives {
public:
    explicit Natives(const ScriptHook& hook) : hook_(hook) {}

    template <typename Result, typename... Arguments>
    Result call(Native native, Arguments... arguments) const {
        hook_.native_init(static_cast<std::uint64_t>(native));
        (push(arguments), ...);
        const std::uint64_t* given = hook_.native_call();
        if constexpr (std::is_same_v<Result, bool>) {
            return given && (*given & 0xFF) != 0;  // of a BOOL only the low byte counts
        } else if constexpr (!std::is_void_v<Result>) {
            Result result{};
            if (given) std::memcpy(static_cast<void*>(&result), given, sizeof result);
            return result;
        }
    }

private:
    template <typename T>
    void push(T value) const {
        static_assert(sizeof(T) <= 8);
        std::uint64_t bits = 0;
        std::memcpy(&bits, &value, sizeof value);
        hook_.native_push(bits);
    }

    const ScriptHook& hook_;
};

}  // namespace realmaster
