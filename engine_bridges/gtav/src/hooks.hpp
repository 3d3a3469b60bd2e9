// Calls of one Direct3D 11 context that are watched: binding targets and clearing a depth.
//
// Entries of the context's table of functions are replaced, and put back on unloading. Works on pointers; what the calls
// mean is the watcher's business.
#pragma once

#include <d3d11.h>

#include <string>

namespace realmaster {

/// What is told of each call, on the thread that makes it.
class Watcher {
public:
    virtual ~Watcher() = default;
    /// After the targets were bound.
    virtual void bound(ID3D11DeviceContext* context, UINT count, ID3D11RenderTargetView* const* targets,
                       ID3D11DepthStencilView* depth) = 0;
    /// Before a depth is cleared.
    virtual void clears(ID3D11DeviceContext* context, ID3D11DepthStencilView* depth, UINT what, float value) = 0;
};

namespace hooks {

/// Watches the calls of this context, and sees to it that they are still watched. An empty text, or the file name of the
/// program that has hooked them and that is not passed over.
std::string watch(ID3D11DeviceContext* context, Watcher* watcher, bool over_foreign);

/// Puts the functions of the watched context back; while the context is still held, whose table it may be.
void restore();

/// Puts everything back, and waits until no thread is in our functions.
void unwatch();

/// While one exists, `unwatch` waits.
class Inside {
public:
    Inside();
    ~Inside();
};

}  // namespace hooks
}  // namespace realmaster
