#include "ring.hpp"

#include <algorithm>

#include "textures.hpp"

namespace realmaster {

Ring::Ring(Com<ID3D11Device> device, Com<ID3D11DeviceContext> context, int slots)
    : device_(std::move(device)), context_(std::move(context)) {
    for (int i = 0; i < slots; ++i) slots_.push_back(std::make_unique<Slot>());
}

Slot* Ring::arm() {
    for (const auto& slot : slots_) {
        if (slot->state != Slot::State::free) continue;
        if (!slot->done) {
            const D3D11_QUERY_DESC desc{D3D11_QUERY_EVENT, 0};
            if (FAILED(device_->CreateQuery(&desc, slot->done.into()))) return nullptr;
        }
        slot->state = Slot::State::armed;
        slot->has_color = slot->has_depth = slot->has_constants = false;
        slot->has_targets = 0;
        Shot& shot = slot->shot;
        shot.frame = nullptr;
        shot.color = shot.depth = shot.constants = {};
        shot.targets.fill({});
        shot.constant_bytes.fill(0);
        shot.consumed = false;
        return slot.get();
    }
    return nullptr;
}

void Ring::disarm(Slot& slot) { slot.state = Slot::State::free; }

bool Ring::copy(Com<ID3D11Texture2D>& into, ID3D11Texture2D* from) {
    const D3D11_TEXTURE2D_DESC wanted = staging_for(from), have = description(into.get());
    if (have.Width != wanted.Width || have.Height != wanted.Height || have.Format != wanted.Format) {
        if (FAILED(device_->CreateTexture2D(&wanted, nullptr, into.into()))) return false;
    }
    context_->CopySubresourceRegion(into.get(), 0, 0, 0, 0, from, 0, nullptr);
    return true;
}

void Ring::copy_target(Slot& slot, int which, ID3D11Texture2D* from) {
    if (copy(slot.targets[static_cast<std::size_t>(which)], from)) slot.has_targets |= 1u << which;
}

void Ring::copy_constants(Slot& slot) {
    if (!slot.constants) {
        const D3D11_BUFFER_DESC desc = staging_bytes(static_cast<UINT>(CONSTANT_SLOTS * CONSTANT_BYTES));
        if (FAILED(device_->CreateBuffer(&desc, nullptr, slot.constants.into()))) return;
    }
    ID3D11Buffer* bound[CONSTANT_SLOTS] = {};
    context_->VSGetConstantBuffers(0, CONSTANT_SLOTS, bound);
    slot.shot.constant_bytes.fill(0);
    for (std::size_t i = 0; i < CONSTANT_SLOTS; ++i) {
        const Com<ID3D11Buffer> buffer = Com<ID3D11Buffer>::adopt(bound[i]);
        D3D11_BUFFER_DESC desc{};
        if (buffer) buffer->GetDesc(&desc);
        if (desc.ByteWidth < 64 || desc.ByteWidth > CONSTANT_BYTES) continue;
        context_->CopySubresourceRegion(slot.constants.get(), 0, static_cast<UINT>(i * CONSTANT_BYTES), 0, 0, buffer.get(), 0,
                                        nullptr);
        slot.shot.constant_bytes[i] = desc.ByteWidth;
        slot.has_constants = true;
    }
}

void Ring::submit(Slot& slot) {
    context_->End(slot.done.get());
    slot.state = Slot::State::copying;
    under_way_.push_back(&slot);
}

bool Ring::map(Slot& slot) {
    D3D11_MAPPED_SUBRESOURCE mapped;
    std::vector<ID3D11Resource*> done;
    const auto take = [&](ID3D11Resource* resource, Plane& into) {
        const HRESULT result = context_->Map(resource, 0, D3D11_MAP_READ, D3D11_MAP_FLAG_DO_NOT_WAIT, &mapped);
        if (FAILED(result)) return false;
        done.push_back(resource);
        into = {static_cast<const std::uint8_t*>(mapped.pData), mapped.RowPitch};
        return true;
    };
    bool all = true;
    if (slot.has_color) all = all && take(slot.color.get(), slot.shot.color);
    if (slot.has_depth) all = all && take(slot.depth.get(), slot.shot.depth);
    if (slot.has_constants) all = all && take(slot.constants.get(), slot.shot.constants);
    for (std::size_t i = 0; i < slot.targets.size(); ++i) {
        if (slot.has_targets >> i & 1) all = all && take(slot.targets[i].get(), slot.shot.targets[i]);
    }
    if (!all) {
        for (ID3D11Resource* resource : done) context_->Unmap(resource, 0);
    }
    return all;
}

void Ring::unmap(Slot& slot) {
    if (slot.has_color) context_->Unmap(slot.color.get(), 0);
    if (slot.has_depth) context_->Unmap(slot.depth.get(), 0);
    if (slot.has_constants) context_->Unmap(slot.constants.get(), 0);
    for (std::size_t i = 0; i < slot.targets.size(); ++i) {
        if (slot.has_targets >> i & 1) context_->Unmap(slot.targets[i].get(), 0);
    }
}

std::vector<Slot*> Ring::collect() {
    std::vector<Slot*> ready;
    for (Slot* slot : under_way_) {
        if (slot->state == Slot::State::mapped && slot->shot.consumed) {
            unmap(*slot);
            slot->state = Slot::State::free;
        }
    }
    const auto is_free = [](const Slot* slot) { return slot->state == Slot::State::free; };
    under_way_.erase(std::remove_if(under_way_.begin(), under_way_.end(), is_free), under_way_.end());
    for (Slot* slot : under_way_) {
        if (slot->state != Slot::State::copying) continue;
        BOOL done = FALSE;
        const HRESULT result = context_->GetData(slot->done.get(), &done, sizeof done, D3D11_ASYNC_GETDATA_DONOTFLUSH);
        if (result != S_OK || !done || !map(*slot)) break;  // those behind it are not ready either
        slot->state = Slot::State::mapped;
        ready.push_back(slot);
    }
    return ready;
}

std::vector<Slot*> Ring::abandon() {
    std::vector<Slot*> lost;
    for (Slot* slot : under_way_) {
        if (slot->state == Slot::State::copying) lost.push_back(slot);
        // What is mapped is being read, and goes with the textures.
        while (slot->state == Slot::State::mapped && !slot->shot.consumed) Sleep(1);
    }
    under_way_.clear();
    return lost;
}

}  // namespace realmaster
