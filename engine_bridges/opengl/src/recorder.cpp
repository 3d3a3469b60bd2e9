#include "recorder.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace realmaster {
namespace {

bool same_lens(const Lens& one, const Lens& other) {
    if (one.perspective.has_value() != other.perspective.has_value() || one.program != other.program ||
        one.low != other.low || one.high != other.high || !(one.viewport == other.viewport)) {
        return false;
    }
    if (!one.perspective) return true;
    return same_view(*one.perspective, *other.perspective);
}

constexpr int BLOCK_COPIES = 24;

}  // namespace

Recorder::Recorder(Delivery& delivery) : delivery_(delivery) {
    Silence silence(errors_);
    can_.version = gl::version();
    const auto has = [this](const char* name, int es_major) {
        return can_.version.es ? can_.version.at_least(es_major, 0) : gl::has_extension(name);
    };
    can_.pixel_buffers = has("GL_ARB_pixel_buffer_object", 3) && gl::GenBuffers != nullptr &&
                         (can_.version.es ? gl::MapBufferRange != nullptr : gl::MapBuffer != nullptr);
    can_.fences = has("GL_ARB_sync", 3) && gl::FenceSync != nullptr;
    can_.framebuffers = has("GL_ARB_framebuffer_object", 3) && gl::BlitFramebuffer != nullptr;
    can_.clip_control = gl::has_extension("GL_ARB_clip_control") || (!can_.version.es && can_.version.at_least(4, 5));
    can_.uniform_blocks = has("GL_ARB_uniform_buffer_object", 3) && has("GL_ARB_copy_buffer", 3) &&
                          gl::CopyBufferSubData != nullptr && can_.pixel_buffers;
    can_.pipelines = has("GL_ARB_separate_shader_objects", 4) && gl::GetProgramPipelineiv != nullptr;
    if (can_.version.es) {
        delivery_.expect_no_depth();
        delivery_.tell("depth_es", "this game uses OpenGL ES, which does not let depth be read: colour only.");
    } else if (!can_.pixel_buffers) {
        delivery_.tell(
            "no_pixel_buffers",
            "the driver lacks GL_ARB_pixel_buffer_object: every captured frame waits for the graphics card.");
    } else if (!can_.fences) {
        delivery_.tell("no_fences",
                       "the driver lacks GL_ARB_sync: frames are read two swaps late without knowing "
                       "whether they are done, which may wait for the graphics card.");
    }
    if (!can_.version.es && !can_.framebuffers) {
        delivery_.tell("no_framebuffers",
                       "the driver lacks GL_ARB_framebuffer_object: only the window's own depth "
                       "can be read, not one that the game draws elsewhere.");
    }
}

// --- at buffer swaps

bool Recorder::arm(int width, int height) {
    for (Slot& slot : slots_) {
        if (slot.state == Slot::idle) slot_ = &slot;
    }
    if (slot_ == nullptr) return false;
    slot_->state = Slot::filling;
    slot_->shot = std::make_shared<Shot>();
    width_ = width;
    height_ = height;
    plan_ = delivery_.plan();
    if (!settings().hudless) plan_.hudless = false;
    programs_.begin();
    for (const auto& [program, lens] : plan_.learned) programs_.learn(program, lens);
    planes_.clear();
    targets_.clear();
    framebuffer_known_ = viewport_known_ = program_known_ = depth_range_known_ = lens_known_ = depth_test_known_ =
        false;
    matrix_mode_ = 0;
    drawing_ = Drawn::other;
    block_copies_ = 0;
    read_plane_ = nullptr;
    scene_since_read_ = hud_seen_ = in_scene_ = elsewhere_ = false;
    transitions_ = window_draws_ = 0;
    zero_to_one_ = false;
    return true;
}

void Recorder::disarm() {
    if (slot_ == nullptr) return;
    Silence silence(errors_);
    ReadState state(can_);
    slot_->unmap();
    slot_ = nullptr;
}

void Recorder::finish(int width, int height, double time) {
    if (slot_ == nullptr) return;
    if (width != width_ || height != height_) {  // resized while it was drawn: neither the old nor the new picture
        disarm();
        return;
    }
    Slot& slot = *slot_;
    Shot& shot = *slot.shot;
    shot.time = time;
    shot.width = width;
    shot.height = height;
    {
        Silence silence(errors_);
        std::vector<DepthKey> present;
        std::map<DepthKey, int> fillings;
        for (Plane& plane : planes_) {
            const int open = plane.now.eligible() ? 1 : 0, count = static_cast<int>(plane.ended.size()) + open;
            if (count > 0) fillings[plane.key] = count;
            for (int i = 0; i < count; ++i) {
                DepthKey key = plane.key;
                key.from_end = count - 1 - i;
                key.of = count;
                present.push_back(key);
            }
            for (std::size_t i = 0; i < plane.probes.size(); ++i) {
                shot.probes[plane.probes[i]].key.from_end = count - 1 - static_cast<int>(i);
                shot.probes[plane.probes[i]].key.of = count;
            }
        }
        const DepthKey* best = can_.version.es ? nullptr : plan_.best(present);
        if (best != nullptr) {
            for (Plane& plane : planes_) {
                DepthKey last = plane.key, key = *best;
                key.from_end = key.of = 0;
                if (!(last == key)) continue;
                const int count = fillings[plane.key], number = count - 1 - best->from_end;
                const bool have = read_plane_ == &plane && read_number_ == number && slot.depth.filled;
                if (have && !(scene_since_read_ && best->from_end == 0 && plane.now.eligible())) {
                    shot.lenses = read_lenses_;
                } else if (best->from_end == 0 && plane.now.eligible()) {
                    read_depth_now(plane, number);
                    shot.lenses = read_lenses_;
                    if (plane.key.kind == 0) hud_seen_ = false;
                }
                if (!shot.lenses.empty() && slot.depth.filled) {
                    shot.depth_key = *best;
                    shot.depth_format = plane.format.format;
                    shot.off_x = plane.format.off_x;
                    shot.off_y = plane.format.off_y;
                }
            }
        }
        if (!can_.version.es && (plan_.probe || best == nullptr)) {
            for (Plane& plane : planes_) {
                if (!plane.now.eligible()) continue;
                const int number = static_cast<int>(plane.ended.size());
                if (static_cast<int>(plane.probes.size()) == number) {
                    probe(plane, number, plane.now.right_aspect, plane.now.weight);
                    shot.probes.back().key.of = number + 1;
                }
            }
        }
        explain(shot);
        expected_fillings_ = fillings;
        expected_transitions_ = std::max(1, transitions_);
        if (shot.depth_format == DepthFormat::none && !elsewhere_) hud_seen_ = false;
        shot.no_hud = !slot.hudless.filled && shot.depth_format != DepthFormat::none;
        shot.announced = plan_.announced;
        if (plan_.send && !delivery_.acquire(shot)) {
            ReadState state(can_);
            slot.unmap();
        } else {
            ReadState state(can_);
            state.read_from(0);
            read_picture(slot.color);
            if (can_.fences) slot.fence = gl::FenceSync(gl::SYNC_GPU_COMMANDS_COMPLETE, 0);
            slot.state = Slot::pending;
            slot.swaps = 0;
            if (slot.hudless.filled && !hud_seen_) shot.no_hud = false;
            under_way_.push_back(&slot);
        }
    }
    slot_ = nullptr;
}

void Recorder::explain(Shot& shot) {
    if (shot.depth_format != DepthFormat::none || can_.version.es) return;
    long long flat = 0;
    const Plane* wrong = nullptr;
    bool any = false, unreadable = false;
    for (const Plane& plane : planes_) {
        flat += plane.now.flat_weight;
        if (plane.wrong_weight > 0 && plane.has_color &&
            (wrong == nullptr || plane.wrong_weight > wrong->wrong_weight)) {
            wrong = &plane;
        }
        any = any || plane.now.eligible() || !plane.ended.empty();
        unreadable = unreadable || (plane.now.eligible() && plane.format.format == DepthFormat::none);
    }
    if (any && !unreadable) return;  // by content, if at all
    if (unreadable) {
        shot.why_no_depth = "unreadable";
    } else if (wrong != nullptr) {
        shot.why_no_depth = "wrong_size";
        shot.detail = std::to_string(wrong->wrong_area.width) + "x" + std::to_string(wrong->wrong_area.height);
    } else if (flat > 0) {
        shot.why_no_depth = "orthographic";
    } else {
        shot.why_no_depth = "no_scene";
    }
}

void Recorder::collect(bool wait) {
    if (under_way_.empty()) return;
    Silence silence(errors_);
    ReadState state(can_);
    for (Slot* slot : under_way_) {
        if (slot->state != Slot::pending) continue;
        ++slot->swaps;
        if (slot->fence != nullptr) {
            const std::uint64_t patience = wait ? 5000000000u : 0;
            const gl::Enum done = gl::ClientWaitSync(slot->fence, gl::SYNC_FLUSH_COMMANDS_BIT, patience);
            if (done == gl::TIMEOUT_EXPIRED) break;
        } else if (can_.pixel_buffers && !wait && slot->swaps <= 2) {
            break;
        }
        Shot& shot = *slot->shot;
        shot.color = slot->color.map(can_.version.es);
        if (slot->depth.filled && shot.depth_format != DepthFormat::none) shot.depth = slot->depth.map(can_.version.es);
        if (slot->hudless.filled && !shot.no_hud) shot.hudless = slot->hudless.map(can_.version.es);
        if (slot->extra.filled) shot.extra = slot->extra.map(can_.version.es);
        slot->state = Slot::mapped;
        if (shot.color == nullptr) {
            delivery_.release(shot);
            shot.released = true;
        } else {
            delivery_.push(slot->shot);
        }
    }
    while (!under_way_.empty() && under_way_.front()->state == Slot::mapped && under_way_.front()->shot->released) {
        under_way_.front()->unmap();
        under_way_.erase(under_way_.begin());
    }
}

void Recorder::close(bool current) {
    for (Slot* slot : under_way_) {
        const double deadline = now() + 2;
        if (slot->state == Slot::pending) delivery_.release(*slot->shot);
        while (slot->state == Slot::mapped && !slot->shot->released && now() < deadline) {
            timespec moment{0, 1000000};
            nanosleep(&moment, nullptr);
        }
    }
    under_way_.clear();
    if (current) {
        Silence silence(errors_);
        ReadState state(can_);
        for (Slot& slot : slots_) {
            slot.unmap();
            slot.destroy();
        }
        resolver_.destroy();
    }
    slot_ = nullptr;
}

// --- while a frame is followed

void Recorder::switched(gl::Enum what) {
    if (what == gl::DEPTH_TEST) depth_test_known_ = false;
}

void Recorder::matrix_set() {
    if (matrix_mode_ == 0) {
        gl::Int mode = 0;
        gl::GetIntegerv(gl::MATRIX_MODE, &mode);
        matrix_mode_ = static_cast<gl::Enum>(mode);
    }
    if (matrix_mode_ == gl::PROJECTION) lens_known_ = false;
}

void Recorder::framebuffer_bound(gl::Enum target, gl::Uint name) {
    if (target == gl::READ_FRAMEBUFFER) return;
    if (!framebuffer_known_ || framebuffer_ != name) lens_known_ = false;
    framebuffer_ = name;
    framebuffer_known_ = true;
}

void Recorder::attached(gl::Enum target) {
    if (target == gl::READ_FRAMEBUFFER) {
        targets_.clear();
        return;
    }
    if (framebuffer_known_) attached_named(framebuffer_);
}

void Recorder::attached_named(gl::Uint framebuffer) {
    const auto known = targets_.find(framebuffer);
    if (known == targets_.end()) return;
    // Its depth may leave this framebuffer: what it holds is read while there is a way to it.
    if (framebuffer != 0 && known->second.plane != nullptr && known->second.plane->framebuffer == framebuffer) {
        end_filling(*known->second.plane);
    }
    targets_.erase(known);
}

void Recorder::invalidated(gl::Enum target, gl::Sizei count, const gl::Enum* attachments) {
    if (target == gl::READ_FRAMEBUFFER) return;
    for (gl::Sizei i = 0; i < count; ++i) {
        if (attachments[i] == gl::DEPTH_ATTACHMENT || attachments[i] == gl::DEPTH_STENCIL_ATTACHMENT ||
            attachments[i] == gl::DEPTH) {
            clear_bound(gl::DEPTH_BUFFER_BIT);
            return;
        }
    }
}

void Recorder::framebuffers_deleted(gl::Sizei count, const gl::Uint* names) {
    for (gl::Sizei i = 0; i < count; ++i) {
        if (names[i] != 0) attached_named(names[i]);
    }
    framebuffer_known_ = false;
}

void Recorder::clear_bound(gl::Bitfield buffers) {
    if ((buffers & gl::DEPTH_BUFFER_BIT) == 0 || compiling_) return;
    target();
    clear(buffers, framebuffer_);
}

void Recorder::clear(gl::Bitfield buffers, gl::Uint framebuffer) {
    if ((buffers & gl::DEPTH_BUFFER_BIT) == 0 || compiling_) return;
    const auto known = targets_.find(framebuffer);
    if (known == targets_.end() || known->second.plane == nullptr || !known->second.plane->now.eligible()) return;
    Plane& plane = *known->second.plane;
    if (gl::IsEnabled(gl::SCISSOR_TEST)) {
        gl::Int box[4];
        gl::GetIntegerv(gl::SCISSOR_BOX, box);
        if (static_cast<double>(box[2]) * box[3] < 0.6 * plane.area.area()) {
            if (framebuffer == 0) hud_begins(&plane);  // room for a 3-D item of the HUD
            return;
        }
    }
    end_filling(plane);
}

void Recorder::blitted(gl::Uint framebuffer, bool named, gl::Bitfield buffers) {
    if (compiling_) return;
    if (!named) {
        target();
        framebuffer = framebuffer_;
    }
    if (framebuffer == 0 && (buffers & gl::COLOR_BUFFER_BIT) != 0 && elsewhere_) {
        if (window_draws_ == 0) in_scene_ = false;
        ++window_draws_;
    }
}

Recorder::Target& Recorder::target() {
    if (!framebuffer_known_) {
        gl::Int bound = 0;
        if (can_.framebuffers) gl::GetIntegerv(gl::DRAW_FRAMEBUFFER_BINDING, &bound);
        framebuffer_ = static_cast<gl::Uint>(bound);
        framebuffer_known_ = true;
    }
    Target& found = targets_[framebuffer_];
    if (found.known) return found;
    found.known = true;
    DepthKey key;
    bool has_color = true;
    if (framebuffer_ != 0) {
        Silence silence(errors_);
        const auto ask = [](gl::Enum attachment, gl::Enum what) {
            gl::Int value = 0;
            gl::GetFramebufferAttachmentParameteriv(gl::DRAW_FRAMEBUFFER, attachment, what, &value);
            return static_cast<std::uint32_t>(value);
        };
        key.kind = ask(gl::DEPTH_ATTACHMENT, gl::ATTACHMENT_OBJECT_TYPE);
        if (key.kind == 0) return found;
        key.name = ask(gl::DEPTH_ATTACHMENT, gl::ATTACHMENT_OBJECT_NAME);
        if (key.kind != gl::RENDERBUFFER) {
            key.place = ask(gl::DEPTH_ATTACHMENT, gl::ATTACHMENT_LEVEL) << 24 |
                        ask(gl::DEPTH_ATTACHMENT, gl::ATTACHMENT_LAYER) << 8 |
                        (ask(gl::DEPTH_ATTACHMENT, gl::ATTACHMENT_CUBE_FACE) & 0xff);
        }
        has_color = ask(gl::COLOR_ATTACHMENT0, gl::ATTACHMENT_OBJECT_TYPE) != 0;
    }
    for (Plane& plane : planes_) {
        if (plane.key == key) {
            plane.has_color = plane.has_color || has_color;
            plane.framebuffer = framebuffer_;
            found.plane = &plane;
            return found;
        }
    }
    planes_.emplace_back();
    Plane& plane = planes_.back();
    plane.key = key;
    plane.framebuffer = framebuffer_;
    plane.has_color = has_color;
    plane.format = format_of(framebuffer_);
    if (framebuffer_ == 0) plane.area = {0, 0, width_, height_};
    found.plane = &plane;
    return found;
}

PlaneFormat Recorder::format_of(gl::Uint framebuffer) {  // which is the one that is drawn into
    Silence silence(errors_);
    PlaneFormat format;
    gl::Int depth = 0, stencil = 0, type = static_cast<gl::Int>(0x8C17);  // GL_UNSIGNED_NORMALIZED
    if (gl::GetFramebufferAttachmentParameteriv != nullptr && can_.framebuffers && can_.version.at_least(3, 0)) {
        const gl::Enum attachment = framebuffer == 0 ? gl::DEPTH : gl::DEPTH_ATTACHMENT;
        const auto ask = [](gl::Enum which, gl::Enum what, gl::Int& into) {
            gl::GetFramebufferAttachmentParameteriv(gl::DRAW_FRAMEBUFFER, which, what, &into);
        };
        gl::Int there = 0;
        ask(attachment, gl::ATTACHMENT_OBJECT_TYPE, there);
        if (there == 0) return format;
        ask(attachment, gl::ATTACHMENT_DEPTH_SIZE, depth);
        ask(attachment, gl::ATTACHMENT_COMPONENT_TYPE, type);
        const gl::Enum stencils = framebuffer == 0 ? 0x1802 /* GL_STENCIL */ : gl::STENCIL_ATTACHMENT;
        ask(stencils, gl::ATTACHMENT_OBJECT_TYPE, there);
        if (there != 0) ask(stencils, gl::ATTACHMENT_STENCIL_SIZE, stencil);
    } else {
        gl::GetIntegerv(gl::DEPTH_BITS, &depth);
        gl::GetIntegerv(gl::STENCIL_BITS, &stencil);
    }
    gl::Int multisampled = 0;
    gl::GetIntegerv(gl::SAMPLE_BUFFERS, &multisampled);
    if (framebuffer != 0) format.samples = multisampled;  // the window's own is resolved by reading it
    if (multisampled > 0 && gl::GetMultisamplefv != nullptr) {
        float position[2] = {0.5f, 0.5f};
        gl::GetMultisamplefv(gl::SAMPLE_POSITION, 0, position);  // the sample that drivers take when they resolve depth
        format.off_x = position[0] - 0.5f;
        format.off_y = position[1] - 0.5f;
    }
    format.stencil = stencil > 0;
    if (type == static_cast<gl::Int>(gl::FLOAT))
        format.format = DepthFormat::float32;
    else if (depth == 16)
        format.format = DepthFormat::unorm16;
    else if (depth == 24)
        format.format = DepthFormat::unorm24;
    else if (depth == 32)
        format.format = DepthFormat::unorm32;
    return format;
}

void Recorder::ask_program() {
    gl::Int value = 0;
    if (can_.version.at_least(2, 0)) gl::GetIntegerv(gl::CURRENT_PROGRAM, &value);
    if (value == 0 && can_.pipelines) {
        gl::GetIntegerv(gl::PROGRAM_PIPELINE_BINDING, &value);
        if (value != 0) gl::GetProgramPipelineiv(static_cast<gl::Uint>(value), gl::VERTEX_SHADER, &value);
    }
    program_ = static_cast<gl::Uint>(value);
    program_known_ = true;
}

void Recorder::look_at_lens(Plane* plane) {
    lens_known_ = true;
    if (!viewport_known_) {
        gl::Int box[4];
        gl::GetIntegerv(gl::VIEWPORT, box);
        viewport_ = {box[0], box[1], box[2], box[3]};
        viewport_known_ = true;
    }
    if (!program_known_) ask_program();
    if (!depth_range_known_) {
        gl::GetFloatv(gl::DEPTH_RANGE, depth_range_);
        depth_range_known_ = true;
    }
    if (!depth_test_known_) {
        depth_test_ = gl::IsEnabled(gl::DEPTH_TEST) != 0;
        depth_test_known_ = true;
    }
    const double aspect = viewport_.height > 0 ? static_cast<double>(viewport_.width) / viewport_.height : 1;
    lens_from_block_ = false;
    projection_ = Projection{};
    Programs::Program* program = program_ == 0 ? nullptr : &programs_.at(program_);
    if (program != nullptr) projection_ = programs_.projection(program_, aspect, lights_);
    const bool fixed = program_ == 0 || program->fixed_function;
    if (projection_.kind != Projection::perspective && fixed && can_.version.fixed_function) {
        float matrix[16];
        gl::GetFloatv(gl::PROJECTION_MATRIX, matrix);
        projection_ = classify(matrix);
        if (projection_.kind == Projection::unknown && !depth_test_) projection_.kind = Projection::orthographic;
    } else if (projection_.kind != Projection::perspective && program != nullptr && !program->blocks.empty()) {
        lens_from_block_ = can_.uniform_blocks;
        if (program->learned) projection_ = {Projection::perspective, program->learned};
    }
    if (projection_.kind == Projection::perspective) {
        drawing_ = Drawn::scene;
    } else if (projection_.kind == Projection::orthographic || !depth_test_) {
        drawing_ = Drawn::flat;
    } else {
        drawing_ = Drawn::scene;  // no matrix tells, but what is tested for depth is in space
    }
    if (plane == nullptr && drawing_ == Drawn::scene) drawing_ = Drawn::flat;  // nothing is hidden by anything

    if (drawing_ != Drawn::scene) return;
    if (plane != nullptr && !plane->has_color && projection_.lens) {  // what only a shadow map is drawn with
        const auto same = [this](const Perspective& light) { return same_view(light, *projection_.lens); };
        if (std::none_of(lights_.begin(), lights_.end(), same)) lights_.push_back(*projection_.lens);
        if (lights_.size() > 16) lights_.pop_front();
    }
    if (can_.clip_control) {
        gl::Int mode = 0;
        gl::GetIntegerv(gl::CLIP_DEPTH_MODE, &mode);
        zero_to_one_ = mode == static_cast<gl::Int>(gl::ZERO_TO_ONE);
    }
    lens_ = Lens{};
    lens_.perspective = projection_.lens;
    lens_.viewport = viewport_;
    lens_.low = depth_range_[0];
    lens_.high = depth_range_[1];
    lens_.zero_to_one = zero_to_one_;
    lens_.program = lens_from_block_ ? program_ : 0;
    if (!projection_.lens) {
        float clear = 1;
        gl::GetFloatv(gl::DEPTH_CLEAR_VALUE, &clear);
        lens_.reversed = clear < 0.5f;
    }
}

void Recorder::add_lens(Plane& plane, long long vertices) {
    for (Lens& known : plane.now.lenses) {
        if (!same_lens(known, lens_)) continue;
        known.weight += vertices;
        if (known.perspective && lens_.perspective && lens_.perspective->pure) known.perspective = lens_.perspective;
        return;
    }
    if (plane.now.lenses.size() >= 32) return;
    plane.now.lenses.push_back(lens_);
    plane.now.lenses.back().weight = vertices;
    if (lens_from_block_) copy_blocks(plane.now.lenses.back());
}

void Recorder::copy_blocks(Lens& lens) {
    if (block_copies_ >= BLOCK_COPIES || slot_ == nullptr) return;
    Slot& slot = *slot_;
    Silence silence(errors_);
    gl::Int bound_read = 0, bound_write = 0;
    gl::GetIntegerv(gl::COPY_READ_BUFFER, &bound_read);
    gl::GetIntegerv(gl::COPY_WRITE_BUFFER, &bound_write);
    if (!slot.extra.filled) {
        ReadState state(can_);
        slot.extra.begin(EXTRA_BYTES, true);
    }
    lens.copy_at = slot.extra_used;
    lens.row_major.clear();
    for (const MatrixBlock& block : programs_.at(program_).blocks) {
        gl::Int binding = 0, buffer = 0;
        std::int64_t start = 0;
        gl::GetActiveUniformBlockiv(program_, block.index, gl::UNIFORM_BLOCK_BINDING, &binding);
        gl::GetIntegeri_v(gl::UNIFORM_BUFFER_BINDING, static_cast<gl::Uint>(binding), &buffer);
        if (gl::GetInteger64i_v != nullptr) {
            gl::GetInteger64i_v(gl::UNIFORM_BUFFER_START, static_cast<gl::Uint>(binding), &start);
        }
        if (buffer == 0) continue;
        gl::BindBuffer(gl::COPY_READ_BUFFER, static_cast<gl::Uint>(buffer));
        gl::BindBuffer(gl::COPY_WRITE_BUFFER, slot.extra.buffer());
        for (std::size_t i = 0; i < block.offsets.size() && slot.extra_used + 64 <= EXTRA_BYTES; ++i) {
            gl::CopyBufferSubData(gl::COPY_READ_BUFFER, gl::COPY_WRITE_BUFFER,
                                  static_cast<gl::Intptr>(start) + block.offsets[i],
                                  static_cast<gl::Intptr>(slot.extra_used), 64);
            if (gl::GetError() != gl::NO_ERROR) continue;  // the game has it mapped just now
            lens.row_major.push_back(block.row_major[i]);
            slot.extra_used += 64;
        }
    }
    lens.copy_bytes = slot.extra_used - lens.copy_at;
    ++block_copies_;
    gl::BindBuffer(gl::COPY_READ_BUFFER, static_cast<gl::Uint>(bound_read));
    gl::BindBuffer(gl::COPY_WRITE_BUFFER, static_cast<gl::Uint>(bound_write));
}

void Recorder::draw(long long vertices) {
    if (compiling_ || vertices <= 0) return;
    Plane* plane = target().plane;
    if (!viewport_known_) lens_known_ = false;
    if (!lens_known_) look_at_lens(plane);

    const bool on_window = framebuffer_ == 0;
    if (drawing_ == Drawn::scene && plane != nullptr) {
        const bool whole = on_window ? !small(viewport_) : viewport_.width == width_ && viewport_.height == height_;
        if (whole) {
            if (!on_window) plane->area = viewport_;
            if (depth_test_ || lens_.perspective) {
                plane->now.weight += vertices;
                if (lens_.perspective &&
                    fits(*lens_.perspective, static_cast<double>(viewport_.width) / viewport_.height)) {
                    plane->now.right_aspect = true;
                }
                add_lens(*plane, vertices);
            }
            if (on_window) {
                in_scene_ = true;
                if (read_plane_ == plane) scene_since_read_ = true;
                hud_seen_ = hud_seen_ && read_plane_ != plane;
            } else {
                elsewhere_ = true;
                window_draws_ = 0;
                if (!slot_->hudless.filled || read_plane_ == nullptr) hud_seen_ = false;
            }
        } else if (on_window) {
            drawn_over(plane);
        } else {
            plane->wrong_weight += vertices;
            if (viewport_.area() > plane->wrong_area.area()) plane->wrong_area = viewport_;
        }
        return;
    }
    if (plane != nullptr && depth_test_ && projection_.kind == Projection::orthographic) {
        plane->now.flat_weight += vertices;
    }
    if (on_window) drawn_over(plane);
}

// Something is drawn onto the window that is not the scene.
void Recorder::drawn_over(Plane* plane) {
    if (in_scene_) {
        hud_begins(plane);
    } else if (elsewhere_) {
        // The scene was drawn elsewhere and has been brought to the window: what comes now lies over it.
        if (window_draws_ == 1 && !hud_seen_ && plan_.hudless && plan_.read) {
            Silence silence(errors_);
            ReadState state(can_);
            state.read_from(0);
            read_picture(slot_->hudless);
            hud_seen_ = true;
        }
        ++window_draws_;
    }
}

// The scene on the window is complete as far as it is ours: picture and depth are read here, as one pair.
void Recorder::hud_begins(Plane* plane) {
    in_scene_ = false;
    if (plane == nullptr || !plane->now.eligible()) return;
    ++transitions_;
    if (transitions_ < expected_transitions_ || transitions_ > expected_transitions_ + 2) return;
    if (!plan_.read || !is_best(*plane)) return;
    Silence silence(errors_);
    read_depth_now(*plane, static_cast<int>(plane->ended.size()));
    if (plan_.hudless) {
        ReadState state(can_);
        state.read_from(0);
        read_picture(slot_->hudless);
        hud_seen_ = true;
    }
}

// What the open filling of a plane will turn out to be, if the frame goes as the one before.
DepthKey Recorder::expected_key(const Plane& plane) const {
    const int number = static_cast<int>(plane.ended.size());
    const auto known = expected_fillings_.find(plane.key);
    DepthKey key = plane.key;
    key.of = std::max(number + 1, known == expected_fillings_.end() ? 1 : known->second);
    key.from_end = key.of - 1 - number;
    return key;
}

// Whether it will be the best depth of the frame.
bool Recorder::is_best(const Plane& plane) const {
    const auto score = plan_.scores.find(expected_key(plane));
    if (score == plan_.scores.end() || score->second <= 0) return false;
    for (const auto& [other, value] : plan_.scores) {
        DepthKey place = other;
        place.from_end = place.of = 0;
        const auto expected = expected_fillings_.find(place);
        if (value > score->second && expected != expected_fillings_.end() && expected->second == other.of) return false;
    }
    return true;
}

// What the plane holds is about to be lost.
void Recorder::end_filling(Plane& plane) {
    if (!plane.now.eligible()) {
        plane.now = Filling{};
        return;
    }
    const int number = static_cast<int>(plane.ended.size());
    Silence silence(errors_);
    if (plan_.probe || plan_.scores.count(expected_key(plane)) == 0) {
        probe(plane, number, plane.now.right_aspect, plane.now.weight);
    }
    const bool wanted = plan_.read && is_best(plane);
    const bool have = read_plane_ == &plane && read_number_ == number && !scene_since_read_;
    if (wanted && !have) {
        read_depth_now(plane, number);
        if (plane.key.kind == 0 && plan_.hudless) {
            ReadState state(can_);
            state.read_from(0);
            read_picture(slot_->hudless);
            hud_seen_ = true;
        }
    }
    plane.ended.push_back(plane.now);
    plane.now = Filling{};
    in_scene_ = false;
}

void Recorder::read_depth_now(Plane& plane, int number) {
    if (plane.format.format == DepthFormat::none || plane.area.area() <= 0) return;
    ReadState state(can_);
    state.read_from(plane.framebuffer);
    if (plane.format.samples > 0 &&
        resolver_.resolve(plane.framebuffer, plane.format, plane.area.x + width_, plane.area.y + height_) == 0) {
        delivery_.tell("multisampled",
                       "the game's multisampled depth cannot be resolved by this driver: switch "
                       "anti-aliasing off in the game.");
        plane.format.format = DepthFormat::none;
        return;
    }
    const std::size_t bytes =
        static_cast<std::size_t>(width_) * static_cast<std::size_t>(height_) * bytes_per_pixel(plane.format.format);
    void* into = slot_->depth.begin(bytes, can_.pixel_buffers);
    read_depth({plane.area.x, plane.area.y, width_, height_}, plane.format, into);
    read_plane_ = &plane;
    read_number_ = number;
    read_lenses_ = plane.now.lenses;
    scene_since_read_ = false;
}

void Recorder::probe(Plane& plane, int number, bool right_aspect, long long weight) {
    if (plane.format.format == DepthFormat::none || static_cast<int>(plane.probes.size()) != number) return;
    Slot& slot = *slot_;
    const std::size_t row = static_cast<std::size_t>(width_) * bytes_per_pixel(plane.format.format);
    if (slot.extra_used + row * PROBE_ROWS > EXTRA_BYTES) return;
    ReadState state(can_);
    state.read_from(plane.framebuffer);
    if (plane.format.samples > 0 &&
        resolver_.resolve(plane.framebuffer, plane.format, plane.area.x + width_, plane.area.y + height_) == 0) {
        return;
    }
    const std::size_t at = (slot.extra_used + 63) / 64 * 64;
    auto* into = static_cast<std::uint8_t*>(slot.extra.begin(EXTRA_BYTES, can_.pixel_buffers)) + at;
    for (int i = 0; i < PROBE_ROWS; ++i) {
        read_depth({plane.area.x, plane.area.y + probe_row(i, height_), width_, 1}, plane.format, into);
        into += row;
    }
    slot.extra_used = at + row * PROBE_ROWS;
    plane.probes.push_back(slot.shot->probes.size());
    slot.shot->probes.push_back({plane.key, plane.format.format, at, plane.has_color, right_aspect, weight});
}

void Recorder::read_picture(Memory& into) {
    const std::size_t bytes = static_cast<std::size_t>(width_) * static_cast<std::size_t>(height_) * 4;
    gl::Int buffer = static_cast<gl::Int>(gl::BACK);
    if (!can_.version.es) gl::GetIntegerv(gl::READ_BUFFER, &buffer);
    const bool turn = buffer != static_cast<gl::Int>(gl::BACK);  // an error, and no change, where there is no back
    if (turn) gl::ReadBuffer(gl::BACK);
    if (!rgba_) rgba_ = can_.version.es || prefers_rgba();
    slot_->shot->color_rgba = *rgba_;
    read_color(width_, height_, *rgba_, into.begin(bytes, can_.pixel_buffers));
    if (turn) gl::ReadBuffer(static_cast<gl::Enum>(buffer));
}

gl::Enum Recorder::kept_error() {
    if (errors_.empty()) return gl::NO_ERROR;
    const gl::Enum error = errors_.front();
    errors_.pop_front();
    return error;
}

}  // namespace realmaster
