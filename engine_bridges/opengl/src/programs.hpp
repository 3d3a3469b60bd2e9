// What shader programs are given as matrices: with which lens they draw, as far as their uniforms tell.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "gl_api.hpp"
#include "projection.hpp"

namespace realmaster {

// With what kind of projection something is drawn.
struct Projection {
    enum Kind {
        unknown,       // no matrix tells
        perspective,   // lens says which, when it could be taken apart
        orthographic,
    } kind = unknown;
    std::optional<Perspective> lens;
};

// A uniform block in which matrices were found, and where one of its buffers has them.
struct MatrixBlock {
    gl::Uint index = 0;
    std::vector<gl::Int> offsets;     // of 4x4 matrices, bytes
    std::vector<std::uint32_t> row_major;  // for each of them
};

class Programs {
public:
    struct Program {
        struct Matrix {
            gl::Int location = -1;
            int count = 1;       // locations one after another: 4 vectors make a matrix too
            bool vectors = false;
            bool light = false;  // its name says that it is not the camera's
        };
        std::vector<Matrix> matrices;
        std::vector<MatrixBlock> blocks;
        bool fixed_function = false;  // uses the matrix stacks of old
        int looks = 0;                // how often it was asked for in this frame
        bool fresh = false;           // `last` holds for the uniforms as they are
        Projection last;
        std::optional<Perspective> learned;  // found in its uniform buffers in an earlier frame
    };

    // A new frame is followed from here on.
    void begin();
    // A program, with its uniforms listed at the first call. GL calls.
    Program& at(gl::Uint name);
    // What a program's own uniforms say now; aspect: width by height of the viewport; lights: lenses of shadow maps. GL
    // calls, few per frame.
    const Projection& projection(gl::Uint name, double aspect, const std::deque<Perspective>& lights);
    // Some uniform of the program has been set.
    void touched(gl::Uint name);
    void forget(gl::Uint name);
    void learn(gl::Uint name, const std::optional<Perspective>& lens);

private:
    std::unordered_map<gl::Uint, Program> programs_;
};

// 16 numbers, by columns.
struct Candidate {
    const float* matrix;
    bool light;
};

// Picks the camera's lens out of several matrices: one whose aspect fits, no shadow map's, and alone rather than a
// product.
Projection choose(const std::vector<Candidate>& matrices, double aspect, const std::deque<Perspective>& lights);

// A perspective, an orthographic projection, or neither.
Projection classify(const float matrix[16]);

bool fits(const Perspective& lens, double aspect);

}  // namespace realmaster
