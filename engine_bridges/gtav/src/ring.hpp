// Copies of the game's textures that the processor can read, some frames late, so that nobody waits for the graphics card:
// staging textures, and an event query that tells when they are filled.
//
// All of it is used by the thread that renders, but for `Shot::consumed`.
#pragma once

#include <d3d11.h>

#include <array>
#include <memory>
#include <vector>

#include "com.hpp"
#include "shot.hpp"

namespace realmaster {

/// One frame's copies.
struct Slot {
    enum class State { free, armed, copying, mapped };

    State state = State::free;
    Shot shot;
    Com<ID3D11Texture2D> color, depth;
    std::array<Com<ID3D11Texture2D>, MOST_TARGETS> targets;
    Com<ID3D11Buffer> constants;
    Com<ID3D11Query> done;
    bool has_color = false, has_depth = false, has_constants = false;
    unsigned has_targets = 0;  // as bits
};

class Ring {
public:
    Ring(Com<ID3D11Device> device, Com<ID3D11DeviceContext> context, int slots);

    /// A slot that is free, armed from now on; nullptr when all are under way.
    Slot* arm();
    void disarm(Slot& slot);

    // Copies into an armed slot. False: there is no memory for it.
    bool copy_color(Slot& slot, ID3D11Texture2D* from) { return slot.has_color = copy(slot.color, from); }
    bool copy_depth(Slot& slot, ID3D11Texture2D* from) { return slot.has_depth = copy(slot.depth, from); }
    void copy_target(Slot& slot, int which, ID3D11Texture2D* from);
    /// The constant buffers that are bound to the vertex shader now.
    void copy_constants(Slot& slot);
    /// All copies of the frame are under way.
    void submit(Slot& slot);

    /// What has been copied meanwhile, mapped, oldest first; and unmaps what was consumed.
    std::vector<Slot*> collect();
    /// At the end of the device: waits until nobody reads what is mapped. The result: the slots whose copies come no more.
    std::vector<Slot*> abandon();

private:
    bool copy(Com<ID3D11Texture2D>& into, ID3D11Texture2D* from);
    bool map(Slot& slot);
    void unmap(Slot& slot);

    Com<ID3D11Device> device_;
    Com<ID3D11DeviceContext> context_;
    std::vector<std::unique_ptr<Slot>> slots_;
    std::vector<Slot*> under_way_;  // in the order of their frames
};

}  // namespace realmaster
