// Keys that start and end a take or save the replay while the game has the keyboard (X11).
//
// A connection and a thread of our own listen to raw key events (XInput 2), so the game gets every key as before and
// its event loop is not touched.
#pragma once

namespace realmaster::hotkeys {

// game: the game's X display, or nullptr for the default one.  on_key: called with an event's name, from our thread.
void start(void* game, void (*on_key)(const char* event));
void stop();

}  // namespace realmaster::hotkeys
