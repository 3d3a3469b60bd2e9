// What the fake ScriptHookV.dll offers to the fake game besides ScriptHookV's own names.
#pragma once

#include <windows.h>

#include <cstdint>

/// Answers one native: writes up to three 64-bit results. Called inside the script thread only.
using Answer = void (*)(std::uint64_t hash, const std::uint64_t* arguments, int count, std::uint64_t* results);
/// Handles of all entities of a kind: 0 vehicles, 1 people, 2 objects; how many there are, at most `most`.
using World = int (*)(int kind, int* handles, int most);

extern "C" {
void fake_answers(Answer answer, World world);
void fake_version(int version);
/// Runs every script until it waits; on the thread that called it first.
void fake_tick();
/// Calls the present callbacks; from the render thread.
void fake_present(void* swap_chain);
void fake_key(DWORD key, BOOL up);
}
