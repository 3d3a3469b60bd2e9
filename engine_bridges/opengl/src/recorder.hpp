// Follows the frames of one OpenGL context: what is drawn where with which lens, which depth holds the scene, when the
// HUD begins; and reads the picture and that depth at the right moments.
//
// Called by the hooks on the thread that renders. Knows nothing of windows, of the network or of any game.
//
// Only frames that are captured are followed ("armed"): what a game set before is asked for at the first draw call
// that depends on it. A depth plane that is cleared and drawn again in the middle of a frame has several *fillings*;
// DepthKey names one of them by counting from the frame's end, because what comes before the scene (mirrors, shadows)
// varies more than what comes after it (a held item).
#pragma once

#include <deque>
#include <list>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "delivery.hpp"
#include "gl_api.hpp"
#include "programs.hpp"
#include "readback.hpp"
#include "shot.hpp"

namespace realmaster {

class Recorder {
public:
    explicit Recorder(Delivery& delivery);

    // --- at buffer swaps
    bool armed() const { return slot_ != nullptr; }
    // A frame begins that is to be captured. False when there is nowhere to read it into.
    bool arm(int width, int height);
    // The frame is complete, and its size is still this one: read what is missing and let the driver work.
    void finish(int width, int height, double time);
    // The frame is not wanted after all.
    void disarm();
    // Hand over what has been read since; in mode lossless everything.
    void collect(bool wait);
    // The context is about to go.  current: it is current on this thread.
    void close(bool current);

    // --- while a frame is followed; before the call takes effect unless said otherwise
    void draw(long long vertices);
    void clear(gl::Bitfield buffers, gl::Uint framebuffer);  // of a framebuffer
    void clear_bound(gl::Bitfield buffers);                  // of the one that is drawn into
    void framebuffer_bound(gl::Enum target, gl::Uint name);  // after it
    void attached(gl::Enum target);
    void attached_named(gl::Uint framebuffer);
    void invalidated(gl::Enum target, gl::Sizei count, const gl::Enum* attachments);
    void framebuffers_deleted(gl::Sizei count, const gl::Uint* names);
    void blitted(gl::Uint framebuffer_or_bound, bool named, gl::Bitfield buffers);
    void viewport_set() { viewport_known_ = false; }
    void program_used(gl::Uint program) {
        program_ = program;
        program_known_ = program != 0;  // without one a pipeline may have its say
        lens_known_ = false;
    }
    void pipeline_used() { program_known_ = lens_known_ = false; }
    void uniform_set() {
        if (!program_known_) ask_program();
        uniform_set(program_);
    }
    void uniform_set(gl::Uint program) {
        programs_.touched(program);
        lens_known_ = false;
    }
    void uniform_buffer_set() { lens_known_ = false; }
    void matrix_mode_set(gl::Enum mode) { matrix_mode_ = mode; }
    void attributes_popped() {
        matrix_mode_ = 0;
        viewport_known_ = depth_range_known_ = lens_known_ = depth_test_known_ = false;
    }
    void matrix_set();
    void depth_range_set() { depth_range_known_ = lens_known_ = false; }
    void switched(gl::Enum what);  // glEnable, glDisable
    void list_begins() { compiling_ = true; }
    void list_ends() { compiling_ = false; }

    // Always.
    void program_gone(gl::Uint program) { programs_.forget(program); }
    gl::Enum kept_error();  // an error of the game's that we took from the driver; 0 if there is none

private:
    struct Filling {
        std::vector<Lens> lenses;
        long long weight = 0;       // vertices drawn over the whole picture, not flat
        long long flat_weight = 0;  // drawn orthographically, but with the depth test
        bool right_aspect = false;
        bool eligible() const { return weight > 0; }
    };
    struct Plane {
        DepthKey key;  // from_end unused
        gl::Uint framebuffer = 0;
        PlaneFormat format;
        bool has_color = true;
        bool wrong_size = false;  // the largest share was drawn in another size than the window's
        long long wrong_weight = 0;
        Rect wrong_area;
        Rect area;  // what the window shows of it
        Filling now;
        std::vector<Filling> ended;  // eligible ones
        std::vector<std::size_t> probes;  // in the shot, by number of the filling
    };
    struct Target {  // a framebuffer's
        Plane* plane = nullptr;  // nullptr: it has no depth
        bool known = false;
    };

    Target& target();  // that is drawn into
    void ask_program();
    void look_at_lens(Plane* plane);
    void add_lens(Plane& plane, long long vertices);
    void copy_blocks(Lens& lens);
    void end_filling(Plane& plane);
    void read_depth_now(Plane& plane, int number);
    void probe(Plane& plane, int number, bool right_aspect, long long weight);
    void drawn_over(Plane* plane);
    void hud_begins(Plane* plane);
    void read_picture(Memory& into);
    DepthKey expected_key(const Plane& plane) const;
    bool is_best(const Plane& plane) const;
    bool small(const Rect& area) const { return area.area() < 0.4 * width_ * height_; }
    PlaneFormat format_of(gl::Uint framebuffer);
    void explain(Shot& shot);

    Delivery& delivery_;
    Abilities can_;
    Slot slots_[3];
    Slot* slot_ = nullptr;  // of the frame that is followed
    std::vector<Slot*> under_way_;  // pending and mapped, oldest first
    Resolver resolver_;
    std::optional<bool> rgba_;  // how the window's picture is read
    Programs programs_;
    std::deque<Perspective> lights_;  // lenses that shadow maps were drawn with, newest last
    std::deque<gl::Enum> errors_;
    Plan plan_;

    int width_ = 0, height_ = 0;
    bool compiling_ = false;
    bool framebuffer_known_ = false, viewport_known_ = false, program_known_ = false, depth_range_known_ = false,
         lens_known_ = false, depth_test_known_ = false, depth_test_ = false, zero_to_one_ = false;
    gl::Uint framebuffer_ = 0, program_ = 0;
    gl::Enum matrix_mode_ = 0;  // 0: not known
    Rect viewport_;
    float depth_range_[2] = {0, 1};

    std::list<Plane> planes_;
    std::unordered_map<gl::Uint, Target> targets_;
    enum class Drawn { scene, flat, other } drawing_ = Drawn::other;
    Projection projection_;
    Lens lens_;            // of the current draw calls
    bool lens_from_block_ = false;
    int block_copies_ = 0;

    // How the frame went so far.
    Plane* read_plane_ = nullptr;  // whose depth is being read into the slot
    int read_number_ = 0;          // which filling of it
    std::vector<Lens> read_lenses_;
    bool scene_since_read_ = false;
    bool hud_seen_ = false;        // hudless was read and nothing of the scene came after it
    bool in_scene_ = false;        // the last draw call was the scene's
    int transitions_ = 0, expected_transitions_ = 1;
    int window_draws_ = 0;         // draw calls and blits onto the window after the scene, which was drawn elsewhere
    bool elsewhere_ = false;
    std::map<DepthKey, int> expected_fillings_;  // of the frame before; keys without a filling
};

}  // namespace realmaster
