"""The benchmarks of `./aloe bench`, by name: each is the module of that name, with an `app` like a verb's."""

BENCHMARKS = {
    "sim": "Speed of the simulated station on one core: physics, cameras.",
    "replay": "Replay store: indexing of bags, chunk transitions a second, resident memory.",
    "record": "Episode recorder under a robot's full load: lost messages, processor time.",
    "takeover": "Takeovers through the real nodes: latency, largest jump; random timelines against the rules.",
    "faults": "Faults on the running graph: who holds when, what is lost, who is told.",
    "infer": "Chunk inference through the real nodes: overhead, model time, missed control ticks.",
    "infer-gpu": "Chunks of LeRobot's VLAs on a GPU: one, eight, LeRobot's own code, the floor.",
    "swap": "Swaps of the policy through the real nodes: announcement to first chunk, missed control ticks.",
    "improve": "Methods on the same data: one step of learning each, many episodes.",
    "rtc": "Policies under a delay: success, speed, and the steps where chunks meet.",
    "updates": "Updates of critic and actor a second.",
    "ogbench": "Chunk critics on the cubes of OGBench, beside the figures of the Q-chunking paper.",
    "critic": "Critics on policies they never saw: ranking, calibration, updates a second.",
    "learn": "Methods of learning from the same warm start, at equal interaction.",
}
