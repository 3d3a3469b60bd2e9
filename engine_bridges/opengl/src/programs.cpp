#include "programs.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace realmaster {
namespace {

constexpr int LOOKS = 64;  // uniforms of one program read per frame; games set a product for every object they draw
constexpr int MATRICES = 12;

// An affine matrix whose rows are perpendicular but not of one length, or that mirrors: scaled as only projections are.
bool orthographic(const float m[16]) {
    if (m[3] != 0 || m[7] != 0 || m[11] != 0 || std::fabs(m[15] - 1) > 1e-5f) return false;
    const auto row = [m](int i) { return std::array<double, 3>{m[i], m[4 + i], m[8 + i]}; };
    const auto dot = [](const auto& p, const auto& q) { return p[0] * q[0] + p[1] * q[1] + p[2] * q[2]; };
    const auto x = row(0), y = row(1), z = row(2);
    const double lx = std::sqrt(dot(x, x)), ly = std::sqrt(dot(y, y)), lz = std::sqrt(dot(z, z));
    if (!(lx > 0) || !(ly > 0)) return false;
    if (std::fabs(dot(x, y)) > 1e-3 * lx * ly) return false;
    if (std::fabs(dot(x, z)) > 1e-3 * lx * lz || std::fabs(dot(y, z)) > 1e-3 * ly * lz) return false;
    if (lz < 0.99 * lx || lz > 1.01 * lx || ly < 0.99 * lx || ly > 1.01 * lx) return true;
    const double turn =
        x[0] * (y[1] * z[2] - y[2] * z[1]) - x[1] * (y[0] * z[2] - y[2] * z[0]) + x[2] * (y[0] * z[1] - y[1] * z[0]);
    return turn < 0;
}

bool of_light(const char* name) {
    for (const char* word : {"light", "Light", "LIGHT", "shadow", "Shadow", "SHADOW"}) {
        if (std::strstr(name, word) != nullptr) return true;
    }
    return false;
}

}  // namespace

bool fits(const Perspective& lens, double aspect) { return std::fabs(lens.fy / lens.fx / aspect - 1) < 0.1; }

Projection classify(const float matrix[16]) {
    Projection found;
    if (divides(matrix)) {
        found.kind = Projection::perspective;
        found.lens = recognise(matrix);
    } else if (orthographic(matrix)) {
        found.kind = Projection::orthographic;
    }
    return found;
}

Projection choose(const std::vector<Candidate>& matrices, double aspect, const std::deque<Perspective>& lights) {
    Projection best;
    int best_rank = 0;
    for (const auto& [matrix, light] : matrices) {
        const Projection found = classify(matrix);
        int rank = 0;
        if (found.kind == Projection::orthographic) rank = 1;
        if (found.kind == Projection::perspective) rank = 2;  // an odd one still says that depth is divided
        if (found.lens && fits(*found.lens, aspect)) {
            const auto same = [&found](const Perspective& other) { return same_view(other, *found.lens); };
            const bool shadow = light || std::any_of(lights.begin(), lights.end(), same);
            rank = (found.lens->pure ? 4 : 3) + (shadow ? 0 : 2);
        }
        if (rank > best_rank) {
            best_rank = rank;
            best = found;
            if (rank == 2) best.lens.reset();
        }
    }
    return best;
}

void Programs::begin() {
    for (auto& [name, program] : programs_) {
        program.looks = 0;
        program.fresh = false;
    }
}

Programs::Program& Programs::at(gl::Uint name) {
    const auto known = programs_.find(name);
    if (known != programs_.end()) return known->second;
    Program& program = programs_[name];
    gl::Int count = 0;
    gl::GetProgramiv(name, gl::ACTIVE_UNIFORMS, &count);
    for (gl::Int i = 0; i < count; ++i) {
        char text[256] = "";
        gl::Sizei length = 0;
        gl::Int size = 0;
        gl::Enum type = 0;
        const auto index = static_cast<gl::Uint>(i);
        gl::GetActiveUniform(name, index, sizeof text, &length, &size, &type, text);
        if (std::strncmp(text, "gl_ModelViewProjection", 22) == 0 ||
            std::strncmp(text, "gl_ProjectionMatrix", 19) == 0) {
            program.fixed_function = true;
            continue;
        }
        const bool matrix = type == gl::FLOAT_MAT4, vectors = type == gl::FLOAT_VEC4 && size == 4;
        if (!matrix && !vectors) continue;
        const gl::Int location = gl::GetUniformLocation(name, text);
        if (location >= 0) {
            if (program.matrices.size() < MATRICES)
                program.matrices.push_back({location, size, vectors, of_light(text)});
        } else if (gl::GetActiveUniformsiv != nullptr && gl::CopyBufferSubData != nullptr) {
            gl::Int block = -1, offset = -1, by_rows = 0;
            gl::GetActiveUniformsiv(name, 1, &index, gl::UNIFORM_BLOCK_INDEX, &block);
            gl::GetActiveUniformsiv(name, 1, &index, gl::UNIFORM_OFFSET, &offset);
            gl::GetActiveUniformsiv(name, 1, &index, gl::UNIFORM_IS_ROW_MAJOR, &by_rows);
            if (block < 0 || offset < 0) continue;
            MatrixBlock* into = nullptr;
            for (MatrixBlock& one : program.blocks) {
                if (one.index == static_cast<gl::Uint>(block)) into = &one;
            }
            if (into == nullptr) {
                program.blocks.push_back({static_cast<gl::Uint>(block), {}, {}});
                into = &program.blocks.back();
            }
            if (into->offsets.size() < MATRICES) {
                into->offsets.push_back(offset);
                into->row_major.push_back(by_rows != 0);
            }
        }
    }
    return program;
}

const Projection& Programs::projection(gl::Uint name, double aspect, const std::deque<Perspective>& lights) {
    Program& program = at(name);
    if (program.fresh || program.looks >= LOOKS) return program.last;
    ++program.looks;
    program.fresh = true;
    std::array<std::array<float, 16>, MATRICES> values{};
    std::vector<Candidate> given;
    for (std::size_t i = 0; i < program.matrices.size(); ++i) {
        const Program::Matrix& matrix = program.matrices[i];
        float* into = values[i].data();
        if (matrix.vectors) {
            for (int k = 0; k < 4; ++k) gl::GetUniformfv(name, matrix.location + k, into + 4 * k);
        } else {
            gl::GetUniformfv(name, matrix.location, into);
        }
        given.push_back({into, matrix.light});
    }
    program.last = choose(given, aspect, lights);
    return program.last;
}

void Programs::touched(gl::Uint name) {
    const auto known = programs_.find(name);
    if (known != programs_.end()) known->second.fresh = false;
}

void Programs::forget(gl::Uint name) { programs_.erase(name); }

void Programs::learn(gl::Uint name, const std::optional<Perspective>& lens) {
    const auto known = programs_.find(name);
    if (known != programs_.end()) known->second.learned = lens;
}

}  // namespace realmaster
