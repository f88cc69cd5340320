/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vectors: labelled points, and the exact search for those nearest to a query.
 *
 * Knows nothing of Manta.  The search goes over the points in blocks that fit into the fast caches,
 * and over all queries for each block: many queries at once read the points from memory once.
 */
#ifndef EXAMPLE_VECTORS_HPP
#define EXAMPLE_VECTORS_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

struct neighbour {
    float distance; /* squared, Euclidean */
    std::int32_t label;
};

class vectors
{
  public:
    /*
     * A line of the file is the point's numbers and, last, its label, with commas between them.  Of
     * every `hold_out` lines the last is left out, so that it can be asked about; 0: none is.
     * Throws std::runtime_error with file and line.
     */
    vectors(const std::string &path, std::size_t hold_out);

    std::size_t size() const
    {
        return labels_.size();
    }
    std::size_t dimensions() const
    {
        return dimensions_;
    }
    /*
     * The `count` points nearest to each query, nearest first, query after query; all points when
     * there are fewer. Queries are rows of dimensions() numbers.
     */
    void search(const std::vector<float> &queries, std::size_t count,
                std::vector<neighbour> &ret_neighbours) const;

  private:
    bool add_line(const std::string &line);

    std::size_t dimensions_ = 0;
    std::vector<float> points_;        /* size() rows */
    std::vector<std::int32_t> labels_; /* of the rows */
};

#endif
