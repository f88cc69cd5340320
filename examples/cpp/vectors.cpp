/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vectors: reading the file, and the search.
 */
#include "vectors.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <stdexcept>

namespace
{

constexpr std::size_t BLOCK_BYTES = 32 << 10; /* of points: a usual first cache */
constexpr std::size_t LIMIT_DIMENSIONS = 4096;

float squared_distance(const float *left, const float *right, std::size_t dimensions)
{
    float sum = 0;
    for (std::size_t i = 0; i < dimensions; i++) {
        float apart = left[i] - right[i];
        sum += apart * apart;
    }
    return sum;
}

/* Equal distances go by label, so that the same data gives the same answer. */
bool is_nearer(const neighbour &left, const neighbour &right)
{
    return left.distance < right.distance ||
           (!(right.distance < left.distance) && left.label < right.label);
}

/* Keeps the nearest `count` of what it is shown, as a heap with the farthest on top. */
void offer(std::vector<neighbour> &heap, std::size_t count, const neighbour &candidate)
{
    if (heap.size() == count) {
        if (!is_nearer(candidate, heap.front()))
            return;
        std::pop_heap(heap.begin(), heap.end(), is_nearer);
        heap.back() = candidate;
    } else {
        heap.push_back(candidate);
    }
    std::push_heap(heap.begin(), heap.end(), is_nearer);
}

} /* namespace */

vectors::vectors(const std::string &path, std::size_t hold_out)
{
    std::ifstream file(path);
    std::string line;
    if (!file)
        throw std::runtime_error("the file " + path + " cannot be opened");
    for (std::size_t number = 1; std::getline(file, line); number++) {
        if (hold_out && number % hold_out == 0)
            continue;
        if (!add_line(line))
            throw std::runtime_error(path + ":" + std::to_string(number) +
                                     ": not as many numbers as above and a whole label");
    }
    if (labels_.empty())
        throw std::runtime_error("there are no points in " + path);
}

bool vectors::add_line(const std::string &line)
{
    std::size_t before = points_.size();
    for (const char *at = line.c_str();;) {
        char *end;
        float number = std::strtof(at, &end);
        if (end == at || !std::isfinite(number) || points_.size() - before > LIMIT_DIMENSIONS)
            return false;
        if (*end != ',') {
            std::size_t found = points_.size() - before;
            if (*end || !found || (dimensions_ && found != dimensions_) ||
                number != std::trunc(number) || std::fabs(number) > 1e6F)
                return false;
            dimensions_ = found;
            labels_.push_back(static_cast<std::int32_t>(number));
            return true;
        }
        points_.push_back(number);
        at = end + 1;
    }
}

void vectors::search(const std::vector<float> &queries, std::size_t count,
                     std::vector<neighbour> &ret_neighbours) const
{
    std::vector<std::vector<neighbour>> heaps(queries.size() / dimensions_);
    std::size_t block = std::max<std::size_t>(1, BLOCK_BYTES / (dimensions_ * sizeof(float)));
    for (std::size_t first = 0; first < size(); first += block) {
        std::size_t last = std::min(first + block, size());
        for (std::size_t query = 0; query < heaps.size(); query++)
            for (std::size_t point = first; point < last; point++)
                offer(heaps[query], count,
                      {squared_distance(&queries[query * dimensions_],
                                        &points_[point * dimensions_], dimensions_),
                       labels_[point]});
    }
    ret_neighbours.clear();
    for (std::vector<neighbour> &heap : heaps) {
        std::sort_heap(heap.begin(), heap.end(), is_nearer);
        ret_neighbours.insert(ret_neighbours.end(), heap.begin(), heap.end());
    }
}
